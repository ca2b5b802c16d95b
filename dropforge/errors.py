"""Every error Dropforge raises on purpose.

    DropforgeError
    ├── ProjectError                 project.yaml is missing or wrong
    ├── ExportError                  the dropped file as a whole cannot be used
    │   ├── EncodingError            not UTF-8
    │   ├── SchemaError              no known shape, or a broken table
    │   ├── NoDataError              nothing usable in it
    │   ├── TooLargeError            larger than one run takes
    │   └── TooManyRejectedError     so many rows are unusable that the file is probably wrong
    ├── DatasetError
    │   ├── TooFewExamplesError      not enough to train and judge on
    │   └── OverBudgetError          training would cost more than the project allows
    ├── BackendError                 a provider or a database said no
    │   ├── RetryableError           worth the same call again; the state machine does
    │   │   ├── AsleepError          an endpoint at zero copies: it wakes in minutes
    │   │   └── StartingError        another run is just starting the same training job
    │   ├── DatabaseError            a database cannot be read; its address is never told
    │   ├── TrainingNotAvailableError  the account may not fine-tune (403 training_not_available)
    │   ├── ModelRetiredError        the base model cannot be trained, or is past its shutdown date
    │   ├── TrainingFailedError      the job ended without a model
    │   ├── TrainingTimedOutError    the job did not end in time
    │   ├── ProviderDownError        silent for longer than the project's patience
    │   └── ParityError              the served model is not the one that was trained
    ├── JudgeError                   an evaluation could not be made
    ├── PromotionError               the champion pointer could not be moved
    └── RequestError                 a caller of the chat API is told what is wrong (see serve.py)

Step Functions matches on class names, so a name here is part of the pipeline's contract.
"""

from __future__ import annotations

from typing import ClassVar


class DropforgeError(Exception):
    """Something went wrong in a way that a person can act on.

    Args:
        message: what is wrong, in one sentence, without any text a customer wrote.
        hint: what to do about it.
    """

    code: ClassVar[str] = "ERROR"

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.code}: {self.message}" + (f" {self.hint}" if self.hint else "")


class ProjectError(DropforgeError):
    code = "PROJECT"


class ExportError(DropforgeError):
    code = "EXPORT"


class EncodingError(ExportError):
    code = "ENCODING"


class SchemaError(ExportError):
    code = "SCHEMA"


class NoDataError(ExportError):
    code = "NO_DATA"


class TooLargeError(ExportError):
    code = "TOO_LARGE"


class TooManyRejectedError(ExportError):
    code = "TOO_MANY_REJECTED"


class DatasetError(DropforgeError):
    code = "DATASET"


class TooFewExamplesError(DatasetError):
    code = "TOO_FEW_EXAMPLES"


class OverBudgetError(DatasetError):
    code = "OVER_BUDGET"


class BackendError(DropforgeError):
    code = "BACKEND"


class RetryableError(BackendError):
    code = "RETRYABLE"


class AsleepError(RetryableError):
    code = "ASLEEP"


class StartingError(RetryableError):
    code = "STARTING"


class DatabaseError(BackendError):
    code = "DATABASE"


class TrainingNotAvailableError(BackendError):
    code = "TRAINING_NOT_AVAILABLE"


class ModelRetiredError(BackendError):
    code = "MODEL_RETIRED"


class TrainingFailedError(BackendError):
    code = "TRAINING_FAILED"


class TrainingTimedOutError(BackendError):
    code = "TRAINING_TIMED_OUT"


class ProviderDownError(BackendError):
    code = "PROVIDER_DOWN"


class ParityError(BackendError):
    code = "PARITY"


class JudgeError(DropforgeError):
    code = "JUDGE"


class PromotionError(DropforgeError):
    code = "PROMOTION"


class RequestError(DropforgeError):
    code = "REQUEST"
