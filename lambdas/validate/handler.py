"""The project's clean parts -> a dataset under `validate/…`, with its data report."""

from __future__ import annotations

from toktok import batch_count

from dropforge.artifacts import CleanManifest, DatasetManifest, clean_key, dataset_key
from dropforge.chat import decode_examples, encode_lines
from dropforge.validate import (
    SPLITS,
    build_dataset,
    data_report,
    dataset_hash,
    token_counts,
)
from lambdas.edge import Edge, Event, Result, stage


@stage("validate")
def handler(edge: Edge, event: Event) -> Result:
    parts = _current_parts(edge)
    config = edge.config
    address = dataset_hash(parts, config.system_prompt, config.training.max_rows)
    key = dataset_key(edge.run.project, address)
    manifest = edge.store.find_manifest(key, DatasetManifest) or _build(edge, parts, address)
    item = {"hash": address, "parts": parts, "examples": manifest.examples}
    edge.registry.put(edge.run.project, f"dataset#{address}", item)
    summary = {"hash": address, "examples": manifest.examples}
    edge.note({"validate": {**summary, "warnings": manifest.warnings}})
    return summary


def _current_parts(edge: Edge) -> list[str]:
    """The newest clean part of every dropped file: one dropped again replaces its former self."""
    newest: dict[str, dict[str, str]] = {}
    for item in sorted(edge.registry.items(edge.run.project, "clean#"), key=lambda i: i["at"]):
        newest[item["key"]] = item
    by_content = {item["sha256"]: item["hash"] for item in newest.values()}
    return sorted(by_content.values())


def _build(edge: Edge, parts: list[str], address: str) -> DatasetManifest:
    project, store = edge.run.project, edge.store
    dataset = build_dataset(
        (decode_examples(store.read(clean_key(project, part, "part.jsonl"))) for part in parts),
        edge.config.training.max_rows,
    )
    manifest = DatasetManifest(
        project=project,
        hash=address,
        parts=tuple(parts),
        examples={split: len(dataset.splits[split]) for split in SPLITS},
        tokens=token_counts(dataset, lambda texts: batch_count(texts, "o200k_base")),
        repeated_across_parts=dataset.repeated,
        left_out=dataset.left_out,
        warnings=dataset.warnings,
    )
    for split in SPLITS:
        lines = encode_lines(dataset.splits[split])
        store.write(dataset_key(project, address, f"{split}.jsonl"), lines)
    lengths = [sum(len(m.content) for m in row.messages) for row in dataset.splits["train"]]
    sources = [store.load(clean_key(project, part), CleanManifest) for part in parts]
    report = data_report(manifest, sources, lengths)
    store.write(dataset_key(project, address, "report.html"), report)
    store.save(dataset_key(project, address), manifest)
    return manifest
