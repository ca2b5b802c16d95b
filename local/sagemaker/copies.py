"""Copies of base components: they scale to zero, and one starts when somebody asks in vain.

On AWS an alarm on NoCapacityInvocationFailures starts it, and it takes minutes; here the refused
invocation does, and it takes seconds. Nothing scales in by itself here:
UpdateInferenceComponentRuntimeConfig with `CopyCount` 0 puts a component to sleep.
"""

from __future__ import annotations

import threading
import time
from typing import Final

from local.sagemaker.errors import InvalidRequestError, RuntimeRefusalError
from local.sagemaker.records import Record, Records

WAKE_SECONDS: Final = 3.0
NO_CAPACITY: Final = (
    "Inference Component has no capacity to process this request. ApplicationAutoScaling may be "
    "in-progress (if configured) or try to increase the capacity by invoking "
    "UpdateInferenceComponentRuntimeConfig API."
)


class Copies:
    """The copies of the components in `components`; adapters live on their base's.

    Args:
        wake_seconds: until a started copy answers.
    """

    def __init__(self, components: Records, wake_seconds: float = WAKE_SECONDS) -> None:
        self._components = components
        self._wake_seconds = wake_seconds

    def update(self, request: Record) -> Record:
        """UpdateInferenceComponentRuntimeConfig."""
        name = request["InferenceComponentName"]
        record = self._components.get(name)
        if record is None:
            raise InvalidRequestError(f'Could not find inference component "{name}".')
        if record["Specification"].get("BaseInferenceComponentName"):
            raise InvalidRequestError("An adapter component has no copies of its own.")
        self._start(name, request["DesiredRuntimeConfig"]["CopyCount"])
        return {"InferenceComponentArn": record["InferenceComponentArn"]}

    def require(self, record: Record) -> None:
        """Lets an invocation through that finds a copy.

        Raises:
            RuntimeRefusalError: there is none; now one is being started.
        """
        base = record["Specification"].get("BaseInferenceComponentName")
        found = (self._components.get(base) if base else record) or record
        if _count(found, "CurrentCopyCount") > 0:
            return
        if _count(found, "DesiredCopyCount") == 0:
            self._start(found["InferenceComponentName"], 1)
        raise RuntimeRefusalError(NO_CAPACITY)

    def resume(self) -> None:
        """Starts again what was being started before a restart."""
        for name, record in self._components.all().items():
            wanted = _count(record, "DesiredCopyCount")
            if wanted > _count(record, "CurrentCopyCount"):
                self._start(name, wanted)

    def _start(self, name: str, wanted: int) -> None:
        def note(record: Record) -> None:
            awake = _count(record, "CurrentCopyCount") > 0
            record["RuntimeConfig"] = {
                "DesiredCopyCount": wanted,
                "CurrentCopyCount": wanted if awake or wanted == 0 else 0,
            }
            record["LastModifiedTime"] = time.time()

        def ready(record: Record) -> None:
            record["RuntimeConfig"]["CurrentCopyCount"] = record["RuntimeConfig"][
                "DesiredCopyCount"
            ]

        self._components.change(name, note)
        timer = threading.Timer(self._wake_seconds, self._components.change, (name, ready))
        timer.daemon = True
        timer.start()


def _count(record: Record, member: str) -> int:
    return int(record.get("RuntimeConfig", {}).get(member, 1))
