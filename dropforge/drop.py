"""Drop: an S3 event -> a run of the pipeline.

Reads S3's "Object Created" events as EventBridge hands them on; the edge starts one execution of
the state machine for each dropped version, and none for content that a run has taken care of.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

import msgspec

from dropforge.artifacts import (
    ERROR_SUFFIX,
    EXPORTS,
    PROJECTS,
    collected_prefix,
    digest,
    golden_key,
    project_key,
    split_key,
)

MAX_BYTES = 100 << 30
"""The largest export, uncompressed, that one Spark job is meant for."""
MAX_EXTRACTED = 2 << 30
"""The largest export that is drawn from a database at once: it passes through a function's disk."""


_SEQUENCER = 64
"""S3's sequencers are compared as texts of one length, filled up on the right (user guide, "Event
ordering and duplicate events"); they are hexadecimal, but no integers."""


class Drop(msgspec.Struct, frozen=True):
    """A new version of an object under exports/ or projects/."""

    bucket: str
    key: str
    version_id: str
    project: str
    is_project_file: bool
    order: str = ""
    """What two events of one key are compared by: the later one's is greater. "" where unknown."""

    @property
    def is_golden(self) -> bool:
        """Whether it is the project's golden questions."""
        return self.key == golden_key(self.project)

    @property
    def run_id(self) -> str:
        """Name of the execution: the same version is never run twice."""
        return digest("run/1", self.bucket, self.key, self.version_id)[:32]


def parse_event(event: dict[str, Any]) -> Drop | None:
    """The drop an event tells of; None for an object that starts nothing.

    Nothing is started by our own messages (`*.error.txt`), by folders' placeholders, by collected
    answers (who writes them starts the run), nor by other files beside project.yaml and
    golden.jsonl.
    """
    detail = event["detail"]
    key = str(detail["object"]["key"])
    known = _place(key) or _place(unquote(key))
    if known is None:
        return None
    key, area, project = known
    sequencer = str(detail["object"].get("sequencer") or "")
    return Drop(
        bucket=str(detail["bucket"]["name"]),
        key=key,
        version_id=str(detail["object"].get("version-id") or ""),
        project=project,
        is_project_file=area == PROJECTS and key == project_key(project),
        order=sequencer.upper().ljust(_SEQUENCER, "0") if sequencer else "",
    )


def _place(key: str) -> tuple[str, str, str] | None:
    place = split_key(key)
    if place is None or key.endswith((ERROR_SUFFIX, "/")):
        return None
    area, project, _ = place
    if area == EXPORTS and key.startswith(collected_prefix(project)):
        return None
    if area == PROJECTS and key not in (project_key(project), golden_key(project)):
        return None
    return key, area, project


def content_identity(checksum: str, size: int, config_hash: str) -> str:
    """What makes two drops the same: content, size and the project's configuration."""
    return digest("drop/1", checksum, size, config_hash)[:32]
