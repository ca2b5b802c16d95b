"""The job runner on the tiny model: real subprocesses, no language."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from serving.fine_tuning import JobRequest, new_job
from serving.store import FileStore, JobStore, Record
from serving.trainer import MAX_THREADS, InvalidFileError, Trainer, check_rows, cores, threads
from serving.weights import BASE_MODEL
from tests.training.tiny import rows, write_rows

pytestmark = pytest.mark.slow


class Jobs:
    """One state folder and the trainers that work on it, one after another."""

    def __init__(self, state: Path, base: Path) -> None:
        self.state = state
        self.files = FileStore(state)
        self._base = base
        self.restart()

    def restart(self) -> None:
        """What a new server does with the state of an old one."""
        self.jobs = JobStore(self.state)
        self.trainer = Trainer(self.jobs, self.files, lambda: self._base)
        self.trainer.start()

    def add(self, count: int, **hyperparameters: Any) -> str:
        content = (write_rows(self.state / "rows.jsonl", rows(count)) / "rows.jsonl").read_bytes()
        file = self.files.add("rows.jsonl", "fine-tune", content)
        supervised = {"hyperparameters": {"lora_layers": 2, **hyperparameters}}
        body = JobRequest(
            model=BASE_MODEL,
            training_file=file["id"],
            method={"type": "supervised", "supervised": supervised},
        )
        job = new_job(body, order=len(self.jobs.all()))
        self.jobs.add(job)
        self.trainer.validate(job["id"])
        return str(job["id"])

    def wait(self, job_id: str, until: Callable[[Record], bool]) -> Record:
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline:
            job = self.jobs.get(job_id)
            if until(job):
                return job
            time.sleep(0.05)
        pytest.fail(f"the job is still {job['status']}: {self.jobs.events(job_id)[:3]}")

    def steps(self, job_id: str) -> list[int]:
        return [data["step"] for data in self.jobs.metrics(job_id)]


@pytest.fixture
def jobs(tmp_path: Path, tiny: Path) -> Iterator[Jobs]:
    jobs = Jobs(tmp_path, tiny)
    yield jobs
    jobs.trainer.stop()


def test_a_job_that_a_restart_interrupts_goes_on_and_reports_each_step_once(jobs: Jobs) -> None:
    job_id = jobs.add(40, n_epochs=24, batch_size=8)
    jobs.wait(job_id, lambda _: len(jobs.steps(job_id)) >= 3)
    jobs.trainer.stop()
    done = len(jobs.steps(job_id))
    assert jobs.jobs.get(job_id)["status"] == "running"
    assert done < 120

    jobs.restart()
    job = jobs.wait(job_id, lambda job: job["status"] in ("succeeded", "failed"))
    assert job["status"] == "succeeded", job["error"]
    assert jobs.steps(job_id) == list(range(1, 121))
    assert any("resuming" in line for line in log(jobs, job_id))
    metadata = json.loads((jobs.jobs.folder(job_id) / "model/training.json").read_text())
    assert "bitsandbytes" not in metadata["versions"], "it was not even looked for"
    assert metadata["hyperparameters"]["threads"] == threads()
    assert "restarted" in " ".join(event["message"] for event in jobs.jobs.events(job_id))


def log(jobs: Jobs, job_id: str) -> list[str]:
    return (jobs.jobs.folder(job_id) / "train.log").read_text().splitlines()


def test_jobs_run_one_at_a_time_and_a_cancelled_one_ends_at_once(jobs: Jobs) -> None:
    first, second = jobs.add(40, n_epochs=100), jobs.add(12, n_epochs=1)
    jobs.wait(first, lambda job: job["status"] == "running")
    assert jobs.jobs.get(second)["status"] == "queued"
    jobs.trainer.cancel(second)
    jobs.wait(first, lambda _: len(jobs.steps(first)) >= 1)
    assert jobs.trainer.cancel(first)
    assert jobs.jobs.get(first)["status"] == "cancelled"
    third = jobs.add(12, n_epochs=1, lora_targets="c_attn")
    failed = jobs.wait(third, lambda job: job["status"] == "failed")
    assert "lora_targets" in failed["error"]["message"]
    assert jobs.jobs.get(second)["status"] == "cancelled"
    assert jobs.steps(second) == []
    assert not jobs.trainer.cancel(first)


def test_a_run_takes_a_thread_for_each_core_unless_it_is_told_otherwise() -> None:
    assert threads({"OMP_NUM_THREADS": "3"}) == 3
    assert threads({"OMP_NUM_THREADS": "0"}) == threads({}) == min(MAX_THREADS, cores())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{\n", "line 1: is not valid JSON"),
        ('{"prompt": "a"}\n', "line 1: has no list 'messages'"),
        ('{"messages": [{"role": "user", "content": "a"}]}\n', "must end with a message from"),
        ('{"messages": [{"role": "robot", "content": "a"}]}\n', "the role 'robot'"),
        ('{"messages": [{"role": "user"}]}\n', "without a text 'content'"),
        ("", "has 0 example(s), but must have at least 10"),
    ],
)
def test_a_file_that_cannot_be_trained_on_says_why(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "rows.jsonl").write_text(text)
    with pytest.raises(InvalidFileError) as error:
        check_rows(tmp_path / "rows.jsonl", "rows.jsonl")
    assert said in str(error.value)
