"""The registry as the chat function reads it: few reads, a short memory, no wait for a slow one."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from dropforge.backends.awsapi import AwsError, ConditionFailedError, Table
from dropforge.backends.connection import HttpError
from dropforge.serve import AlreadyRatedError, Feedback, UnavailableError
from dropforge.serve.arms import feedback_key, rated
from dropforge.serve.routing import Champion, ModelVersion, ServedProject

CHAMPION_SECONDS = 2.0  # until a promotion or rollback is noticed
PROJECT_SECONDS = 10.0
VERSION_SECONDS = 60.0
READ_SECONDS = 2.0
REFRESH_SECONDS = 0.15  # a known value is used when its renewal takes longer
TROUBLE_SECONDS = 1.0
"""After a read that failed: so long every known item is used as it is, and no read waits long."""
FEEDBACK_DAYS = 400

ItemT = TypeVar("ItemT")


class ProjectStore:
    """A serve.Registry that remembers each item for a while, per container.

    When the table cannot be read, what was last read goes on being used: an old champion that
    answers is better than an error.
    """

    def __init__(self, table: Table, clock: Callable[[], float] = time.monotonic) -> None:
        self._table = table
        self._clock = clock
        self._known: dict[tuple[str, str], tuple[float, Any]] = {}
        self._trouble_until = 0.0

    def champion(self, project: str) -> Champion | None:
        return self._read(project, "champion", Champion, CHAMPION_SECONDS)

    def project(self, project: str) -> ServedProject | None:
        return self._read(project, "config", ServedProject, PROJECT_SECONDS)

    def version(self, project: str, version: str) -> ModelVersion | None:
        return self._read(project, f"model#{version}", ModelVersion, VERSION_SECONDS)

    def versions(self, project: str) -> list[ModelVersion]:
        """All versions, those that are not ready included.

        Raises:
            UnavailableError: the table cannot be read.
        """
        deadline = self._clock() + READ_SECONDS
        try:
            items = self._table.query(f"project#{project}", "model#", deadline=deadline)
        except (AwsError, HttpError) as error:
            raise _unavailable() from error
        return msgspec.convert(items, list[ModelVersion])

    def rate(self, project: str, feedback: Feedback, *, by: str, at: float) -> None:
        """Stores the rating of one answer. The same rating again changes nothing.

        Args:
            by: the token's name.
            at: seconds since the epoch.

        Raises:
            AlreadyRatedError: it has another rating.
            UnavailableError: the table cannot be written.
        """
        item = {
            "pk": f"project#{project}",
            "sk": feedback_key(feedback.id),
            "arm": rated(feedback.id)[1],
            **{name: value for name, value in msgspec.to_builtins(feedback).items() if value},
            "by": by,
            "at": at,
            "expires_at": int(at) + FEEDBACK_DAYS * 86400,
        }
        try:
            self._table.put(
                item,
                condition="attribute_not_exists(pk) OR rating = :rating",
                values={":rating": feedback.rating},
                deadline=self._clock() + READ_SECONDS,
            )
        except ConditionFailedError as error:
            raise AlreadyRatedError(f"Answer `{feedback.id}` has another rating.") from error
        except (AwsError, HttpError) as error:
            raise _unavailable() from error

    def _read(self, project: str, sk: str, kind: type[ItemT], seconds: float) -> ItemT | None:
        key = (project, sk)
        now = self._clock()
        known = self._known.get(key)
        troubled = now < self._trouble_until
        if known and (troubled or now < known[0]):
            found: ItemT | None = known[1]
            return found
        deadline = now + (REFRESH_SECONDS if known or troubled else READ_SECONDS)
        try:
            item = self._table.get(f"project#{project}", sk, deadline=deadline)
        except (AwsError, HttpError) as error:
            self._trouble_until = self._clock() + TROUBLE_SECONDS
            if known is None:
                raise _unavailable() from error
            value: ItemT | None = known[1]
        else:
            value = msgspec.convert(item, kind) if item else None
        if value is not None or sk == "champion":  # a caller can invent versions without end
            self._known[key] = (now + seconds, value)
        return value


def _unavailable() -> UnavailableError:
    return UnavailableError("The model registry does not answer.", retry_after="2")
