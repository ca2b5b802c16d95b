"""SageMaker's errors as Dropforge's, told apart by their codes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from botocore.exceptions import BotoCoreError, ClientError

from dropforge.errors import BackendError, RetryableError, TrainingNotAvailableError

_PASSING: Final = {
    "InternalDependencyException",
    "InternalFailure",
    "ModelNotReadyException",
    "RequestLimitExceeded",
    "ServiceUnavailable",
    "Throttling",
    "ThrottlingException",
    "TooManyRequestsException",
}
_REFUSING: Final = {"AccessDenied", "AccessDeniedException", "ResourceLimitExceeded"}
_MISSING: Final = {"ResourceNotFound", "ResourceNotFoundException", "ValidationException"}
QUOTAS: Final = (
    "Ask for the quota in Service Quotas (SageMaker), or let the role do it; a run goes on with"
    " the next of its project's backends."
)


def code(error: ClientError) -> str:
    """AWS's name of an error, such as `ResourceInUse`."""
    return str(error.response.get("Error", {}).get("Code", ""))


def is_passing(error: ClientError) -> bool:
    """Whether the same call may work later: throttling, and whatever is the service's own fault.

    A create that failed so may have been accepted all the same.
    """
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return code(error) in _PASSING or status == 429 or status >= 500


def is_missing(error: ClientError) -> bool:
    """SageMaker answers ValidationException for a name that does not exist, whatever is asked."""
    return code(error) in _MISSING


@contextmanager
def translated(asked: str) -> Iterator[None]:
    """Errors of the control plane as ours. Its messages speak of resources, never of data.

    Args:
        asked: the operation, for people.

    Raises:
        RetryableError: the same call may work later.
        TrainingNotAvailableError: a permission or a quota is missing.
        BackendError: any other refusal.
    """
    try:
        yield
    except ClientError as error:
        name = code(error)
        if is_passing(error):
            raise RetryableError(f"SageMaker answered {name}.") from error
        said = error.response.get("Error", {}).get("Message", "")
        message = f"SageMaker refuses {asked}: {name}: {said}"
        if name in _REFUSING:
            raise TrainingNotAvailableError(message, hint=QUOTAS) from error
        raise BackendError(message) from error
    except BotoCoreError as error:
        raise RetryableError("SageMaker did not answer.") from error
