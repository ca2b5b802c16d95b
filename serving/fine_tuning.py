"""Routes of /v1/files and /v1/fine_tuning/jobs, in OpenAI's words."""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import APIRouter, BackgroundTasks, Form, Header, Query, Request, UploadFile
from fastapi.responses import FileResponse
from pydantic import BaseModel, Field

from serving.errors import ApiError
from serving.store import TERMINAL, FileStore, JobStore, Lifecycle, Record, new_id, now, page
from serving.trainer import Trainer
from serving.weights import BASE_MODEL
from training import train

INTERNAL = ("order", "model_name", "train_hyperparameters", "model_deleted", "idempotency_key")
PURPOSES = ("assistants", "batch", "fine-tune", "vision", "user_data", "evals")
Limit = Annotated[int, Query(ge=1, le=100)]


class JobRequest(BaseModel):
    """The body of a job's creation."""

    model: str
    training_file: str
    validation_file: str | None = None
    suffix: str | None = Field(default=None, min_length=1, max_length=64)
    seed: int | None = Field(default=None, ge=0, le=2**31 - 1)
    hyperparameters: dict[str, Any] = {}
    method: dict[str, Any] | None = None
    metadata: dict[str, str] | None = Field(default=None, max_length=16)


def requested_hyperparameters(body: JobRequest) -> dict[str, Any]:
    """What a request asks for, without what it leaves to the server.

    Raises:
        ApiError: 400, a method other than supervised fine-tuning.
    """
    method = body.method or {"type": "supervised", "supervised": {}}
    if method.get("type") != "supervised":
        raise ApiError(400, "Only the method 'supervised' is supported.", param="method")
    given = (method.get("supervised") or {}).get("hyperparameters") or body.hyperparameters
    return {name: value for name, value in given.items() if value not in ("auto", None)}


def train_hyperparameters(asked: dict[str, Any], seed: int) -> dict[str, Any]:
    """The hyperparameters of training/train.py for a request's; its own names are accepted as they
    are.

    Raises:
        ApiError: 400, naming the hyperparameter that is unknown or out of range.
    """
    recipe = train.find_recipe(BASE_MODEL).get("hyperparameters", {})
    values: dict[str, Any] = {}
    for name, value in asked.items():
        if name == "n_epochs":
            values["epochs"] = value
        elif name == "learning_rate_multiplier":
            if not isinstance(value, int | float) or not 0 < value <= 100:
                raise ApiError(
                    400, f"{name} must be over 0 and at most 100.", param="hyperparameters"
                )
            values["learning_rate"] = value * recipe["learning_rate"]
        elif name == "base_model":
            raise ApiError(400, "The base model is chosen by 'model'.", param="hyperparameters")
        else:
            values[name] = value
    try:
        return train.parse_hyperparameters({"seed": seed} | values) | {"base_model": BASE_MODEL}
    except train.TrainingError as error:
        raise ApiError(400, str(error), param="hyperparameters") from error


def new_job(body: JobRequest, order: int) -> Record:
    """The record of a job that a request makes."""
    asked = requested_hyperparameters(body)
    seed = body.seed if body.seed is not None else train.Hyperparameters.seed
    job_id = new_id("ftjob-")
    settings = train_hyperparameters(asked, seed)
    recipe = train.find_recipe(BASE_MODEL).get("hyperparameters", {})
    shown = {
        "n_epochs": settings.get("epochs", recipe["epochs"]),
        "batch_size": settings.get("batch_size", recipe["batch_size"]),
        "learning_rate_multiplier": asked.get("learning_rate_multiplier", 1.0),
    }
    return {
        "id": job_id,
        "object": "fine_tuning.job",
        "model": body.model,
        "created_at": now(),
        "finished_at": None,
        "estimated_finish": None,
        "fine_tuned_model": None,
        "organization_id": "dropforge",
        "status": "validating_files",
        "training_file": body.training_file,
        "validation_file": body.validation_file,
        "result_files": [],
        "trained_tokens": None,
        "error": None,
        "user_provided_suffix": body.suffix,
        "seed": seed,
        "integrations": [],
        "metadata": body.metadata or {},
        "hyperparameters": shown,
        "method": {"type": "supervised", "supervised": {"hyperparameters": shown | asked}},
        "order": order,
        "model_name": f"ft:{body.model}:dropforge:{body.suffix or ''}:{job_id[-8:]}",
        "train_hyperparameters": settings,
    }


def public(job: Record) -> Record:
    """A job as clients see it."""
    return {name: value for name, value in job.items() if name not in INTERNAL}


def metadata_filter(request: Request) -> dict[str, str]:
    """The wanted metadata of a list request: `?metadata[key]=value`."""
    matches = ((re.fullmatch(r"metadata\[(.+)\]", k), v) for k, v in request.query_params.items())
    return {match[1]: value for match, value in matches if match}


def checkpoints(jobs: JobStore, job: Record) -> list[Record]:
    """The checkpoints of a job that has succeeded: one after each epoch, the newest first."""
    folder = jobs.folder(job["id"]) / "checkpoints/adapters"
    if not job["fine_tuned_model"] or not folder.exists():
        return []
    found = []
    told = jobs.metrics(job["id"])
    for path in folder.glob("step-*"):
        step = int(path.name.removeprefix("step-"))
        metrics: Record = {"step": step}
        for data in told:
            metrics |= data if data["step"] == step else {}
        found.append(
            {
                "id": f"ftckpt_{job['id'][-8:]}{step}",
                "object": "fine_tuning.job.checkpoint",
                "created_at": int(path.stat().st_mtime),
                "fine_tuned_model_checkpoint": f"{job['fine_tuned_model']}:ckpt-{path.name}",
                "fine_tuning_job_id": job["id"],
                "metrics": metrics,
                "step_number": step,
            }
        )
    return sorted(found, key=lambda checkpoint: -checkpoint["step_number"])


def file_routes(files: FileStore) -> APIRouter:
    """/v1/files."""
    router = APIRouter(prefix="/v1/files")

    @router.post("")
    async def upload(file: UploadFile, purpose: Annotated[str, Form()]) -> Record:
        if purpose not in PURPOSES:
            known = ", ".join(PURPOSES)
            raise ApiError(400, f"'{purpose}' is not one of: {known}", param="purpose")
        content, name = await file.read(), file.filename or "file"
        if not content:
            raise ApiError(400, "File is empty.", param="file")
        if purpose == "fine-tune" and not name.endswith(".jsonl"):
            message = "Invalid file format for Fine-Tuning API. Must be .jsonl"
            raise ApiError(400, message, param="file")
        return files.add(name, purpose, content)

    @router.get("")
    def list_files(
        purpose: str | None = None,
        after: str | None = None,
        limit: int = 10_000,
        order: str = "desc",
    ) -> Record:
        found = [record for record in files.all() if purpose in (None, record["purpose"])]
        return page(found if order == "desc" else found[::-1], after, limit)

    @router.get("/{file_id}")
    def retrieve(file_id: str) -> Record:
        return files.get(file_id)

    @router.get("/{file_id}/content")
    def content(file_id: str) -> FileResponse:
        return FileResponse(files.content(file_id), media_type="application/octet-stream")

    @router.delete("/{file_id}")
    def delete(file_id: str) -> Record:
        files.delete(file_id)
        return {"id": file_id, "object": "file", "deleted": True}

    return router


@dataclass(frozen=True)
class Training:
    """What creates and cancels jobs, whichever provider's words they are asked for in."""

    jobs: JobStore
    files: FileStore
    trainer: Trainer
    lifecycle: Lifecycle
    lock: threading.Lock = field(default_factory=threading.Lock)

    def create(self, body: JobRequest, key: str | None, later: BackgroundTasks) -> Record:
        """A new job, whose files are checked later; the earlier one of the same Idempotency-Key.

        Raises:
            ApiError: 403, the account may not train (asked before anything else, as OpenAI does);
            400, the model cannot be trained or a file is wrong.
        """
        if self.lifecycle.training_closed:
            message = "Fine-tuning is no longer available for this organization."
            raise ApiError(403, message, code="training_not_available")
        if body.model != BASE_MODEL or self.lifecycle.ended(body.model):
            message = f"Model {body.model} is not available for fine-tuning or does not exist."
            raise ApiError(400, message, param="model", code="model_not_available")
        for param in ("training_file", "validation_file"):
            check_file(self.files, getattr(body, param), param)
        with self.lock:
            known = self.jobs.find(key) if key else None
            if known:
                return known
            newest = self.jobs.all()[:1]
            job = new_job(body, newest[0]["order"] + 1 if newest else 1) | {"idempotency_key": key}
            self.jobs.add(job)
        self.jobs.log(job["id"], f"Created fine-tuning job: {job['id']}")
        later.add_task(self.trainer.validate, job["id"])
        return job

    def cancel(self, job_id: str) -> Record:
        """The cancelled job.

        Raises:
            ApiError: 404, there is no such job; 400, it has ended.
        """
        status = self.jobs.get(job_id)["status"]
        if status in TERMINAL or not self.trainer.cancel(job_id):
            status = self.jobs.get(job_id)["status"]
            message = f"Job {job_id} has already ended, with the status {status}."
            raise ApiError(400, message, param="fine_tune_id", code="invalid_status")
        return self.jobs.get(job_id)


def job_routes(training: Training) -> APIRouter:
    """/v1/fine_tuning/jobs."""
    router = APIRouter(prefix="/v1/fine_tuning/jobs")
    jobs = training.jobs

    @router.post("")
    def create(
        body: JobRequest,
        later: BackgroundTasks,
        idempotency_key: Annotated[str | None, Header()] = None,
    ) -> Record:
        return public(training.create(body, idempotency_key, later))

    @router.get("")
    def list_jobs(request: Request, after: str | None = None, limit: Limit = 20) -> Record:
        wanted = metadata_filter(request).items()
        found = [public(job) for job in jobs.all() if wanted <= job["metadata"].items()]
        return page(found, after, limit)

    @router.get("/{job_id}")
    def retrieve(job_id: str) -> Record:
        return public(jobs.get(job_id))

    @router.post("/{job_id}/cancel")
    def cancel(job_id: str) -> Record:
        return public(training.cancel(job_id))

    @router.get("/{job_id}/events")
    def events(job_id: str, after: str | None = None, limit: Limit = 20) -> Record:
        return page(jobs.events(job_id), after, limit)

    @router.get("/{job_id}/checkpoints")
    def list_checkpoints(job_id: str, after: str | None = None, limit: Limit = 10) -> Record:
        return page(checkpoints(jobs, jobs.get(job_id)), after, limit)

    return router


def check_file(files: FileStore, file_id: str | None, param: str) -> None:
    """Check that a job's file may be trained on.

    Raises:
        ApiError: 400, there is no such file or it was uploaded for something else.
    """
    if file_id is None:
        return
    try:
        purpose = files.get(file_id)["purpose"]
    except ApiError as error:
        raise ApiError(
            400, f"invalid {param}: {file_id}", param=param, code="file_not_found"
        ) from error
    if purpose != "fine-tune":
        message = f"{file_id} has the purpose '{purpose}', not 'fine-tune'."
        raise ApiError(400, message, param=param)
