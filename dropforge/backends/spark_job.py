"""What a Spark job leaves in the store: a manifest, or `error.json` that says why there is none.

The function that the state machine calls after the job then fails with the very error it would
have raised had it read the data itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from dropforge import errors
from dropforge.artifacts import JobError
from dropforge.backends.store import Store
from dropforge.errors import BackendError, DropforgeError

T = TypeVar("T")
HINT = (
    'Set `spark.image` (docs/operations.md, "Exports over 2 GB"), or drop less: the dataset is'
    " built from all files of the project."
)
"""What to do about a TooLargeError that no Spark job takes care of."""
_ERROR = "error.json"


def ended(event: Mapping[str, Any], stage: str) -> bool:
    """Whether the state machine comes back from the stage's Spark job."""
    return (event.get("spark") or {}).get("stage") == stage


def report(store: Store, manifest_key: str, error: DropforgeError) -> None:
    """Write beside where the manifest would be why there is none."""
    told = JobError(type(error).__name__, error.message, error.hint)
    store.save(_error_key(manifest_key), told)


def result(store: Store, manifest_key: str, kind: type[T]) -> T:
    """The manifest that the job has written.

    Raises:
        DropforgeError: the one that the job reported.
        BackendError: the job has written neither.
    """
    manifest = store.find_manifest(manifest_key, kind)
    if manifest is not None:
        return manifest
    told = store.find_manifest(_error_key(manifest_key), JobError)
    if told is not None:
        raise revived(told)
    raise BackendError(
        f"The Spark job has ended without {manifest_key}.",
        hint="Its log says why; drop the file again for another try.",
    )


def revived(told: JobError) -> DropforgeError:
    """The error that was told of; a BackendError where its class is not known here."""
    kind = getattr(errors, told.error, None)
    if not isinstance(kind, type) or not issubclass(kind, DropforgeError):
        kind = BackendError
    return kind(told.message, hint=told.hint)


def _error_key(manifest_key: str) -> str:
    return f"{manifest_key.rpartition('/')[0]}/{_ERROR}"
