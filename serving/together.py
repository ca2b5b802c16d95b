"""Together's words for files, fine-tuning jobs and models, under /together/v1.

The same stores and the same trainer as under /v1; a job's id begins `ftjob-`, not `ft-` as
Together's. Shapes: docs.together.ai/reference. Chat is OpenAI's there too, see chat.py.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, BackgroundTasks, Form, Header, UploadFile
from pydantic import BaseModel, Field

from serving.errors import ApiError
from serving.fine_tuning import JobRequest, Training
from serving.models import Catalogue
from serving.store import FileStore, Record
from serving.weights import BASE_MODEL

STATUS = {
    "validating_files": "pending",
    "succeeded": "completed",
    "failed": "error",
}
"""Together's word for a job's state, where it has another than OpenAI."""
LIMITS = {
    "max_num_epochs": 50,
    "max_learning_rate": 1.0,
    "min_learning_rate": 1e-7,
    "lora_training": {"max_batch_size": 64, "min_batch_size": 1, "max_rank": 256},
}


class LoraType(BaseModel):
    """LoRA; without it the recipe decides."""

    type: Literal["Lora"]
    lora_r: int | None = None
    lora_alpha: int | None = None


class SftMethod(BaseModel):
    method: Literal["sft"]


class FineTuneRequest(BaseModel):
    """The body of a job's creation, as far as it means something here."""

    model: str
    training_file: str
    validation_file: str | None = None
    n_epochs: int = 1
    learning_rate: float | None = None
    batch_size: int | Literal["max"] | None = None
    suffix: str | None = Field(default=None, max_length=40)
    random_seed: int | None = None
    training_method: SftMethod = SftMethod(method="sft")
    training_type: LoraType | None = None

    def ours(self) -> JobRequest:
        """The same job in OpenAI's words."""
        lora = self.training_type or LoraType(type="Lora")
        wanted: dict[str, Any] = {
            "n_epochs": self.n_epochs,
            "learning_rate": self.learning_rate,
            "batch_size": None if self.batch_size == "max" else self.batch_size,
            "lora_rank": lora.lora_r,
            "lora_alpha": lora.lora_alpha,
        }
        return JobRequest(
            model=self.model,
            training_file=self.training_file,
            validation_file=self.validation_file or None,
            suffix=self.suffix or None,
            seed=self.random_seed,
            hyperparameters=wanted,
        )


def together_routes(training: Training, files: FileStore, catalogue: Catalogue) -> APIRouter:
    """/together/v1, all but chat."""
    router = APIRouter(prefix="/together/v1")
    _add_jobs(router, training)
    _add_files(router, files)

    @router.get("/models")
    def list_models() -> list[Record]:
        return [
            {**model, "type": "chat", "organization": model["owned_by"]}
            for model in catalogue.all()
        ]

    @router.get("/fine-tunes/models/limits")
    def limits(model_name: str) -> Record:
        if model_name != BASE_MODEL:
            raise ApiError(404, f"Model {model_name} is not supported for fine-tuning.")
        return {"model_name": model_name, **LIMITS}

    return router


def _add_jobs(router: APIRouter, training: Training) -> None:
    @router.post("/fine-tunes")
    def create(
        body: FineTuneRequest,
        later: BackgroundTasks,
        idempotency_key: Annotated[str | None, Header()] = None,
    ) -> Record:
        return job(training, training.create(body.ours(), idempotency_key, later))

    @router.get("/fine-tunes")
    def list_jobs() -> Record:
        return {"data": [job(training, found) for found in training.jobs.all()]}

    @router.get("/fine-tunes/{job_id}/events")
    def events(job_id: str) -> Record:
        return {"data": _events(training, training.jobs.get(job_id))}

    @router.get("/fine-tunes/{job_id}/metrics")
    def metrics(job_id: str) -> Record:
        told = training.jobs.metrics(job_id)
        return {"metrics": [entry for data in told for entry in _metrics(data)]}

    @router.post("/fine-tunes/{job_id}/cancel")
    def cancel(job_id: str) -> Record:
        return job(training, training.cancel(job_id))

    # After the route of the limits, which it would take for a job.
    @router.get("/fine-tunes/{job_id}")
    def retrieve(job_id: str) -> Record:
        return job(training, training.jobs.get(job_id))


def _add_files(router: APIRouter, files: FileStore) -> None:
    @router.post("/files/upload")
    async def upload(
        file: UploadFile,
        purpose: Annotated[str, Form()],
        file_name: Annotated[str, Form()],
    ) -> Record:
        content = await file.read()
        if not content or not file_name.endswith(".jsonl"):
            raise ApiError(400, "A .jsonl file that is not empty is needed.", param="file")
        return described(files.add(file_name, purpose, content))

    @router.get("/files")
    def list_files() -> Record:
        return {"data": [described(record) for record in files.all()]}

    @router.get("/files/{file_id}")
    def retrieve(file_id: str) -> Record:
        return described(files.get(file_id))


def described(file: Record) -> Record:
    """A file object in Together's form."""
    return {**file, "FileType": "jsonl", "Processed": True, "processing_status": "COMPLETED"}


def job(training: Training, record: Record) -> Record:
    """A job in Together's form."""
    settings = record["train_hyperparameters"]
    ended = record["finished_at"] or record["created_at"]
    return {
        "id": record["id"],
        "status": STATUS.get(record["status"], record["status"]),
        "created_at": _iso(record["created_at"]),
        "updated_at": _iso(ended),
        "user_id": "dropforge",
        "model": record["model"],
        "model_output_name": record["model_name"],
        "suffix": record["user_provided_suffix"],
        "training_file": record["training_file"],
        "validation_file": record["validation_file"] or "",
        "n_epochs": record["hyperparameters"]["n_epochs"],
        "learning_rate": settings.get("learning_rate"),
        "random_seed": record["seed"],
        "token_count": record["trained_tokens"],
        "training_method": {"method": "sft", "train_on_inputs": "auto"},
        "training_type": {"type": "Lora"},
        "events": _events(training, record),
    }


def _events(training: Training, record: Record) -> list[Record]:
    """The messages of a job, the oldest first, without its metrics.

    Why it failed is the record's to say: that is there as soon as the job is seen to have failed.
    """
    logged = reversed(training.jobs.events(record["id"]))
    told = [e for e in logged if e["type"] == "message" and e["level"] != "error"]
    if record["error"]:
        error = {"level": "error", "message": record["error"]["message"]}
        told.append({"created_at": record["finished_at"], **error})
    return [
        {
            "object": "fine-tune-event",
            "created_at": _iso(event["created_at"]),
            "level": event["level"],
            "message": event["message"],
            "type": "job_error" if event["level"] == "error" else "job_pending",
        }
        for event in told
    ]


def _metrics(data: Record) -> list[Record]:
    """A step's metrics: training and validation in entries of their own."""
    names = {"train_loss": "train/loss", "full_valid_loss": "eval/loss"}
    step = {"train/global_step": data["step"]}
    return [{**step, told: data[name]} for name, told in names.items() if name in data]


def _iso(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()
