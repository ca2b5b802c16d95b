"""A dropped file -> `clean/…/part.jsonl`, its manifest, and `rejected/….jsonl`."""

from __future__ import annotations

import time
from hashlib import sha256

from dropforge.artifacts import CleanManifest, Source, clean_key, rejected_key
from dropforge.chat import encode_lines
from dropforge.clean import clean, clean_hash
from dropforge.export import read, sniff
from lambdas.edge import Edge, Event, Result, stage


@stage("clean")
def handler(edge: Edge, event: Event) -> Result:
    data = edge.store.read(edge.run.key, edge.run.version_id)
    config = edge.config
    address = clean_hash(sha256(data).hexdigest(), config.columns.model_dump(), config.keep)
    key = clean_key(edge.run.project, address)
    manifest = edge.store.find_manifest(key, CleanManifest) or _clean(edge, data, address)
    source = {"key": edge.run.key, "sha256": manifest.source.sha256, "at": time.time()}
    edge.registry.put(edge.run.project, f"clean#{address}", {"hash": address, **source})
    summary = {"hash": address, "read": manifest.read, "kept": manifest.kept}
    edge.note({"clean": {**summary, "rejected": manifest.rejected}})
    edge.count(RowsKept=manifest.kept, RowsRejected=manifest.read - manifest.kept)
    return summary


def _clean(edge: Edge, data: bytes, address: str) -> CleanManifest:
    """Clean the file; the manifest is written last, so that half a result is no result."""
    run, config = edge.run, edge.config
    cleaned = clean(read(data, config.columns), config.keep)
    manifest = CleanManifest(
        project=run.project,
        hash=address,
        source=Source(run.bucket, run.key, run.version_id, sha256(data).hexdigest(), len(data)),
        format=sniff(data),
        read=cleaned.read,
        kept=len(cleaned.examples),
        rejected=cleaned.rejected_by_reason,
        redacted_rows=cleaned.redacted_rows,
        repaired=cleaned.repaired,
    )
    edge.store.write(clean_key(run.project, address, "part.jsonl"), encode_lines(cleaned.examples))
    edge.store.write(rejected_key(run.project, address), encode_lines(cleaned.rejected))
    edge.store.save(clean_key(run.project, address), manifest)
    return manifest
