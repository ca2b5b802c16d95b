"""Named records on disk, one JSON file each, as the API describes them.

A record is what the matching Describe operation answers: times are seconds since the epoch, which
is also how JSON 1.1 writes them.
"""

from __future__ import annotations

import copy
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

Record = dict[str, Any]


class Records:
    """The records of one kind, in memory and in a folder; safe to use from several threads."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._lock = threading.RLock()
        self._records: dict[str, Record] = {
            file.stem: json.loads(file.read_text()) for file in sorted(folder.glob("*.json"))
        }

    def get(self, name: str) -> Record | None:
        """A copy of the record."""
        with self._lock:
            return copy.deepcopy(self._records.get(name))

    def all(self) -> dict[str, Record]:
        """Copies of all records by name."""
        with self._lock:
            return copy.deepcopy(self._records)

    def create(self, name: str, record: Record) -> bool:
        """Stores a record under a new name; False, and nothing stored, where the name is taken."""
        with self._lock:
            if name in self._records:
                return False
            self._write(name, record)
            return True

    def change(self, name: str, edit: Callable[[Record], None]) -> None:
        """Applies `edit` to a record and stores it; a deleted one is left deleted."""
        with self._lock:
            record = self.get(name)
            if record is not None:
                edit(record)
                self._write(name, record)

    def delete(self, name: str) -> None:
        with self._lock:
            self._records.pop(name, None)
            self._file(name).unlink(missing_ok=True)

    def _write(self, name: str, record: Record) -> None:
        self._records[name] = copy.deepcopy(record)
        temporary = self._file(name).with_suffix(".new")
        temporary.write_text(json.dumps(record, indent=1))
        temporary.replace(self._file(name))

    def _file(self, name: str) -> Path:
        return self._folder / f"{name}.json"
