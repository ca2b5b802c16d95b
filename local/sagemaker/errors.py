"""The errors of the service, as AWS names and words them.

ServiceError
├── NotFoundError            ValidationException: SageMaker says so for names that do not exist
├── InvalidRequestError      ValidationException
├── InUseError               ResourceInUse
├── HubContentMissingError   ResourceNotFound
├── RuntimeRefusalError      ValidationError, of the runtime API
└── ModelAnswerError         ModelError (424): the container answered with an error
"""

from __future__ import annotations

from typing import Any


class ServiceError(Exception):
    """An answer to a client. `code` is AWS's error code, `status` the HTTP status."""

    code = "InternalFailure"
    status = 500

    def __init__(self, message: str, **members: Any) -> None:
        super().__init__(message)
        self.members = members


class InvalidRequestError(ServiceError):
    code, status = "ValidationException", 400


class NotFoundError(InvalidRequestError):
    pass


class InUseError(ServiceError):
    code, status = "ResourceInUse", 400


class HubContentMissingError(ServiceError):
    code, status = "ResourceNotFound", 400


class RuntimeRefusalError(ServiceError):
    code, status = "ValidationError", 400


class ModelAnswerError(ServiceError):
    code, status = "ModelError", 424


class ModelNotReadyError(ServiceError):
    code, status = "ModelNotReadyException", 429
