"""Runs fine-tuning jobs, one at a time: each is `training/train.py` in a process of its own.

Reads a job's training file, writes its folder: data/, checkpoints/, model/, train.log, and events
with real losses. A job that a restart interrupts goes on from its checkpoint.
"""

from __future__ import annotations

import csv
import fcntl
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from serving.errors import ApiError
from serving.store import TERMINAL, FileStore, JobStore, Record, now

SCRIPT = Path(__file__).resolve().parent.parent / "training/train.py"
MIN_ROWS = 10
MAX_THREADS = 4
"""Small batches on more cores than these wait for each other longer than they multiply."""
GRACE = 30.0
"""Seconds a run has between being asked to stop and being killed."""
_PAIR = re.compile(r"(\w+)=(-?[\d.]+(?:e[+-]?\d+)?|nan|inf)\b")


def threads(environ: Mapping[str, str] = os.environ) -> int:
    """CPU threads of a run whose job names none: OMP_NUM_THREADS, or one for each core."""
    asked = environ.get("OMP_NUM_THREADS", "")
    return int(asked) if asked.isdecimal() and int(asked) else min(MAX_THREADS, cores())


def cores() -> int:
    """The cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS
        return os.cpu_count() or 1


class InvalidFileError(Exception):
    """A training file that cannot be trained on; `code` is OpenAI's."""

    def __init__(self, message: str, code: str = "invalid_file_format") -> None:
        super().__init__(message)
        self.code = code


def check_rows(path: Path, name: str, *, minimum: int = MIN_ROWS) -> None:
    """Check a chat JSONL file as OpenAI does.

    Raises:
        InvalidFileError: too few rows, or rows that are not chats ending with the assistant; it
        names the first.
    """
    rows = 0
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise InvalidFileError(
            f"Invalid file format. {name} is not UTF-8: {error.reason}."
        ) from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        problem = row_problem(line)
        if problem:
            raise InvalidFileError(f"Invalid file format. {name}, line {number}: {problem}.")
        rows += 1
    if rows < minimum:
        raise InvalidFileError(
            f"{name} has {rows} example(s), but must have at least {minimum} examples.",
            "invalid_n_examples",
        )


def row_problem(line: str) -> str | None:
    """What is wrong with one row of training data, if anything."""
    try:
        row = json.loads(line)
    except ValueError:
        return "is not valid JSON"
    messages = row.get("messages") if isinstance(row, dict) else None
    if not isinstance(messages, list) or not messages:
        return "has no list 'messages'"
    for message in messages:
        if not isinstance(message, dict) or not isinstance(message.get("content"), str):
            return "has a message without a text 'content'"
        if message.get("role") not in ("system", "user", "assistant"):
            return f"has a message with the role {message.get('role')!r}"
    if len(messages) < 2 or messages[-1]["role"] != "assistant":
        return "must end with a message from the assistant, after another one"
    return None if messages[-1]["content"].strip() else "ends with an empty answer"


class Trainer:
    """Takes queued jobs in the order they were made."""

    def __init__(self, jobs: JobStore, files: FileStore, weights: Callable[[], Path]) -> None:
        self._jobs = jobs
        self._files = files
        self._weights = weights
        self._wake = threading.Event()
        self._stopping = False
        self._process: subprocess.Popen[str] | None = None
        self._running: str | None = None
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="trainer", daemon=True)

    def start(self) -> None:
        """Begin with the jobs that an earlier server left unfinished."""
        for job in reversed(self._jobs.all()):
            if job["status"] == "validating_files":
                self.validate(job["id"])
            elif job["status"] == "running":
                self._jobs.update(job["id"], status="queued")
                self._jobs.log(job["id"], "The server was restarted; the job goes on where it was")
        self._thread.start()

    def stop(self) -> None:
        """Stop the run under way: it keeps a checkpoint, and the next server takes it up again."""
        self._stopping = True
        self._wake.set()
        self._interrupt()
        self._thread.join(timeout=GRACE + 5)

    def validate(self, job_id: str) -> None:
        """Check a new job's files and queue it, or fail it with OpenAI's error."""
        job = self._jobs.get(job_id)
        self._jobs.log(job_id, f"Validating training file: {job['training_file']}")
        data = self._jobs.folder(job_id) / "data"
        minimums = {"training_file": MIN_ROWS, "validation_file": 1}
        for param, channel in (("training_file", "train"), ("validation_file", "validation")):
            if job[param] is None:
                continue
            try:
                name = self._files.get(job[param])["filename"]
                copy = data / channel / f"{channel}.jsonl"
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(self._files.content(job[param]), copy)
                check_rows(copy, name, minimum=minimums[param])
            except (InvalidFileError, ApiError) as error:
                self._fail(job_id, str(error), error.code or "file_not_found", param)
                return
        if self._jobs.update(job_id, status="queued"):
            self._jobs.log(job_id, "Files validated, moving job to queued state")
        self._wake.set()

    def cancel(self, job_id: str) -> bool:
        """Cancel a job that has not ended; whether it had not."""
        if not self._jobs.update(job_id, status="cancelled", finished_at=now()):
            return False
        self._jobs.log(job_id, "Fine-tuning job cancelled")
        with self._lock:
            if self._running != job_id:
                return True
        self._interrupt()
        return True

    def _interrupt(self) -> None:
        with self._lock:
            process = self._process
        if process is None or process.poll() is not None:
            return
        os.killpg(process.pid, signal.SIGTERM)
        timer = threading.Timer(GRACE, _kill, [process])
        timer.daemon = True
        timer.start()

    def _run(self) -> None:
        while not self._stopping:
            queued = [job for job in self._jobs.all() if job["status"] == "queued"]
            if not queued:
                self._wake.wait()
                self._wake.clear()
                continue
            job_id = queued[-1]["id"]
            try:
                self._train(job_id)
            except Exception as error:
                self._fail(job_id, f"{type(error).__name__}: {error}", "internal_error")

    def _train(self, job_id: str) -> None:
        folder = self._jobs.folder(job_id)
        weights = self._weights()
        with (folder / "lock").open("w") as lock, (folder / "train.log").open("a") as log:
            fcntl.flock(lock, fcntl.LOCK_EX)  # held by an orphan of a killed server until it ends
            (folder / "output/failure").unlink(missing_ok=True)
            with self._lock:
                if self._stopping or not self._jobs.update(job_id, status="running"):
                    return
                process = subprocess.Popen(  # noqa: S603 - our own script
                    [sys.executable, str(SCRIPT)],
                    env=self._environment(job_id, weights),
                    stdout=subprocess.PIPE,
                    stderr=log,
                    text=True,
                    start_new_session=True,
                    pass_fds=[lock.fileno()],
                )
                self._process, self._running = process, job_id
            self._jobs.log(job_id, "Fine-tuning job started")
            progress = Progress(self._jobs, job_id)
            with process:
                for line in process.stdout or ():
                    log.write(line)
                    log.flush()
                    progress.read(line)
            code = process.returncode
            with self._lock:
                self._process, self._running = None, None
        self._conclude(job_id, code, folder)

    def _environment(self, job_id: str, weights: Path) -> dict[str, str]:
        job, folder = self._jobs.get(job_id), self._jobs.folder(job_id)
        return {
            **os.environ,
            "HF_HUB_OFFLINE": "1",
            "SM_HPS": json.dumps({"threads": threads()} | job["train_hyperparameters"]),
            "SM_CHANNEL_TRAIN": str(folder / "data/train"),
            "SM_CHANNEL_VALIDATION": str(folder / "data/validation"),
            "SM_CHANNEL_MODEL": str(weights),
            "SM_MODEL_DIR": str(folder / "model"),
            "SM_CHECKPOINT_DIR": str(folder / "checkpoints"),
            "SM_OUTPUT_DIR": str(folder / "output"),
        }

    def _conclude(self, job_id: str, code: int, folder: Path) -> None:
        if self._jobs.get(job_id)["status"] in TERMINAL or (self._stopping and code != 0):
            return
        if code != 0:
            failure = folder / "output/failure"
            reason = failure.read_text() if failure.exists() else f"training ended with code {code}"
            self._fail(job_id, reason, "training_failed")
            return
        trained = json.loads((folder / "model/training.json").read_text())
        result = self._files.add(
            "step_metrics.csv", "fine-tune-results", metrics_csv(trained).encode()
        )
        job = self._jobs.get(job_id)
        self._jobs.log(job_id, f"New fine-tuned model created: {job['model_name']}")
        self._jobs.log(job_id, "The job has successfully completed")
        self._jobs.update(
            job_id,
            status="succeeded",
            finished_at=now(),
            estimated_finish=None,
            fine_tuned_model=job["model_name"],
            trained_tokens=trained["trained_tokens"],
            result_files=[result["id"]],
        )

    def _fail(self, job_id: str, message: str, code: str, param: str | None = None) -> None:
        error = {"message": message, "code": code, "param": param}
        if self._jobs.update(job_id, status="failed", finished_at=now(), error=error):
            self._jobs.log(job_id, message, level="error")


def _kill(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)


class Progress:
    """Turns the lines a run prints into events, each step once even if a resumed run repeats it."""

    def __init__(self, jobs: JobStore, job_id: str) -> None:
        self._jobs = jobs
        self._id = job_id
        told = jobs.metrics(job_id)
        self._trained = max((data["step"] for data in told if "train_loss" in data), default=-1)
        self._evaluated = max((d["step"] for d in told if "full_valid_loss" in d), default=-1)
        self._began: tuple[int, int] | None = None

    def read(self, line: str) -> None:
        """Log the event that a line reports, if it reports one."""
        values: dict[str, Any] = {name: float(value) for name, value in _PAIR.findall(line)}
        if "step" not in values or "steps" not in values:
            return
        step, steps = int(values["step"]), int(values["steps"])
        data: Record = {"step": step, "total_steps": steps}
        if "eval_loss" in values and step > self._evaluated:
            self._evaluated = step
            data["full_valid_loss"] = values["eval_loss"]
            text = f"Step {step}/{steps}: full validation loss={values['eval_loss']:.2f}"
            self._jobs.log(self._id, text, data)
        elif "train_loss" in values and step > self._trained:
            self._trained = step
            data["train_loss"] = values["train_loss"]
            data["train_mean_token_accuracy"] = values["train_accuracy"]
            self._jobs.log(
                self._id, f"Step {step}/{steps}: training loss={values['train_loss']:.2f}", data
            )
            self._estimate(step, steps)

    def _estimate(self, step: int, steps: int) -> None:
        first, since = self._began = self._began or (step, now())
        if step > first:
            left = (now() - since) * (steps - step) / (step - first)
            self._jobs.update(self._id, estimated_finish=now() + round(left))


def metrics_csv(trained: Record) -> str:
    """A job's result file: one line a step, with the validation loss where it was measured."""
    evaluated = dict(trained["eval_losses"])
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["step", "train_loss", "train_accuracy", "valid_loss"])
    for step, loss, accuracy in trained["train_losses"]:
        writer.writerow([step, loss, accuracy, evaluated.get(step, "")])
    return out.getvalue()
