"""The OpenAI SDK's errors as Dropforge's own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import openai

from dropforge.errors import (
    BackendError,
    ModelRetiredError,
    RetryableError,
    TrainingFailedError,
    TrainingNotAvailableError,
)

_NO_SUCH_MODEL = ("model_not_available", "model_not_found")


@contextmanager
def translated(refused: type[BackendError] = BackendError) -> Iterator[None]:
    """The SDK's errors as ours; a provider's message is passed on, never a request's content.

    Args:
        refused: raised where the provider will not do it, however often it is asked.
    """
    try:
        yield
    except openai.APIStatusError as error:
        raise _status_error(error, refused) from error
    except openai.APIConnectionError as error:
        raise RetryableError("The provider did not answer.") from error
    except (ValueError, TypeError, AttributeError) as error:
        # The SDK passes on what is no JSON or has another shape, and it fails where it is used.
        raise RetryableError("The provider's answer cannot be read.") from error


def _status_error(error: openai.APIStatusError, refused: type[BackendError]) -> BackendError:
    message = f"The provider answered {error.status_code}: {error.message}"
    if error.status_code == 403 and error.code == "training_not_available":
        return not_available("This account may not fine-tune any more.")
    if error.status_code in (408, 409, 429) or error.status_code >= 500:
        return RetryableError(message)
    if error.status_code in (401, 403):
        return BackendError(message, hint="Check the API key in Secrets Manager.")
    if refused is TrainingFailedError and error.code in _NO_SUCH_MODEL:
        return retired(message)
    return refused(message)


def not_available(message: str) -> TrainingNotAvailableError:
    return TrainingNotAvailableError(
        message,
        hint="Set `backend: sagemaker` in project.yaml, or list it under `fallback:`, and drop "
        "again.",
    )


def retired(message: str) -> ModelRetiredError:
    return ModelRetiredError(message, hint="Name another `model` in project.yaml and drop again.")
