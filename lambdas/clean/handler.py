"""A dropped file -> `clean/…/part.jsonl`, its manifest, and `rejected/….jsonl`.

Everything goes through files in the function's own storage: memory grows by some hundred bytes for
each row, not by the row.
"""

from __future__ import annotations

import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec

from dropforge.artifacts import CleanManifest, Source, clean_key, rejected_key
from dropforge.backends import spark_job
from dropforge.chat import encode_lines
from dropforge.clean import Cleaning, clean_hash, names_in, spark_hash
from dropforge.clean.prepare import Rules
from dropforge.errors import TooLargeError
from dropforge.export import Export, read
from dropforge.settings import CleanSettings
from lambdas.edge import Edge, Event, Result, stage

TELL_S = 3
"""Seconds between two notes on how far cleaning is, which `dropforge status` shows."""


@stage("clean", CleanSettings)
def handler(edge: Edge, event: Event) -> Result:
    manifest = _on_spark(edge, after=spark_job.ended(event, "clean"))
    if manifest is None:
        with TemporaryDirectory() as folder:
            manifest = _cleaned(edge, Path(folder))
    address = manifest.hash
    _note(edge, manifest)
    summary = {"hash": address, "read": manifest.read, "kept": manifest.kept}
    edge.note({"clean": {**summary, "rejected": manifest.rejected}})
    edge.count(RowsKept=manifest.kept, RowsRejected=manifest.read - manifest.kept)
    return summary


def _note(edge: Edge, manifest: CleanManifest) -> None:
    """Which file the part is of, when it was dropped, and when first: the order datasets are in."""
    project, place = edge.run.project, f"clean#{manifest.hash}"
    dropped = (edge.registry.get(project, f"run#{edge.run.run_id}") or {}).get("started_at")
    at = dropped or time.time()
    known = edge.registry.get(project, place) or {}
    source = {"key": edge.run.key, "sha256": manifest.source.sha256}
    times = {"at": at, "first_at": known.get("first_at", at)}
    edge.registry.put(project, place, {"hash": manifest.hash, **source, **times})


def _mapping(edge: Edge) -> list[Any]:
    return [names.model_dump() for names in names_in(edge.run.key, edge.run.project, edge.config)]


def _on_spark(edge: Edge, *, after: bool) -> CleanManifest | None:
    """What Spark made of the file, if it did; `after` its job it must have.

    Raises:
        TooLargeError: the file is Spark's; the state machine starts the job.
        DropforgeError: what the job reported.
    """
    run, config = edge.run, edge.config
    identity, size = edge.store.identity(run.key, run.version_id)
    key = clean_key(run.project, spark_hash(identity, _mapping(edge), Rules.of(config)))
    if after:
        return spark_job.result(edge.store, key, CleanManifest)
    known = edge.store.find_manifest(key, CleanManifest)
    limit = CleanSettings.from_environment().max_bytes
    if known is None and size > limit:
        raise TooLargeError(
            f"The file has {size:,} bytes; a function cleans {limit:,}.", hint=spark_job.HINT
        )
    return known


def _cleaned(edge: Edge, folder: Path) -> CleanManifest:
    """What cleaning makes of the file; found in place where it has been made before."""
    run, config = edge.run, edge.config
    rules = Rules.of(config)
    with (folder / "export").open("w+b") as file:
        checksum = edge.store.fetch(run.key, run.version_id, file)
        address = clean_hash(checksum, _mapping(edge), rules)
        known = edge.store.find_manifest(clean_key(run.project, address), CleanManifest)
        if known is not None:
            return known
        size = (folder / "export").stat().st_size
        source = Source(run.bucket, run.key, run.version_id, checksum, size)
        export = read(file, *names_in(run.key, run.project, config))
        return _clean(edge, export, rules, source, address, folder)


def _clean(
    edge: Edge, export: Export, rules: Rules, source: Source, address: str, folder: Path
) -> CleanManifest:
    """Clean the file; the manifest is written last, so that half a result is no result."""
    project = edge.run.project
    cleaning = Cleaning(rules)
    part, rejected = folder / "part.jsonl", folder / "rejected.jsonl"
    rows, told = 0, time.monotonic()
    with part.open("wb") as kept_file, rejected.open("wb") as rejected_file:
        for batch in cleaning.batches(export):
            kept_file.write(encode_lines(batch.kept))
            rejected_file.write(encode_lines(batch.rejected))
            rows += len(batch.kept) + len(batch.rejected)
            if time.monotonic() - told > TELL_S:
                told = time.monotonic()
                edge.note({"cleaning": rows})
    found = msgspec.structs.asdict(cleaning.summary())
    manifest = CleanManifest(
        project=project, hash=address, source=source, format=export.format, **found
    )
    edge.store.upload(clean_key(project, address, part.name), part)
    edge.store.upload(rejected_key(project, address), rejected)
    edge.store.save(clean_key(project, address), manifest)
    return manifest
