"""The project's clean parts -> a dataset under `validate/…`, with its cost and its data report."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile

from toktok import batch_count

from dropforge.artifacts import (
    CleanManifest,
    DatasetManifest,
    DatasetOrder,
    Estimate,
    clean_key,
    collected_key,
    dataset_key,
    order_key,
)
from dropforge.backends import spark_job
from dropforge.cost import check_budgets, estimates
from dropforge.errors import TooLargeError
from dropforge.settings import ValidateSettings
from dropforge.validate import Part, build_dataset, dataset_hash
from dropforge.validate.files import dataset_manifest, written
from lambdas.edge import Edge, Event, Result, stage


@stage("validate", ValidateSettings)
def handler(edge: Edge, event: Event) -> Result:
    settings = ValidateSettings.from_environment()
    after = spark_job.ended(event, "validate")
    parts = _ordered_parts(edge) if after else _current_parts(edge)
    address = dataset_hash(parts, edge.config)
    key = dataset_key(edge.run.project, address)
    if after:
        manifest = spark_job.result(edge.store, key, DatasetManifest)
    else:
        manifest = edge.store.find_manifest(key, DatasetManifest) or _built(edge, parts, address)
    item = {"hash": address, "parts": parts, "examples": manifest.examples}
    edge.registry.put(edge.run.project, f"dataset#{address}", item)
    own = _estimates(edge, manifest)[0]
    summary = {"hash": address, "examples": manifest.examples}
    edge.note({"validate": {**summary, "warnings": manifest.warnings, "usd": own.usd}})
    check_budgets(edge.config, manifest.train_tokens, settings.training_instance)
    return summary


def _current_parts(edge: Edge) -> list[str]:
    """The newest clean part of every dropped file, in the order their contents were first dropped.

    A file dropped again under its key replaces its former self. Collected answers are left out
    where the project does not collect any more: whose consent was withdrawn is not waited for.
    """
    collects, own = edge.config.collect is not None, collected_key(edge.run.project)
    newest: dict[str, dict[str, str]] = {}
    first: dict[str, float] = {}
    for item in sorted(edge.registry.items(edge.run.project, "clean#"), key=lambda i: i["at"]):
        if item["key"] == own and not collects:
            continue
        newest[item["key"]] = item
        content, at = item["sha256"], item["first_at"]
        first[content] = min(at, first.get(content, at))
    by_content = {item["sha256"]: item["hash"] for item in newest.values()}
    return [by_content[sha] for sha in sorted(by_content, key=lambda sha: (first[sha], sha))]


def _ordered_parts(edge: Edge) -> list[str]:
    """The parts that Spark was told to build of: others may have been cleaned since."""
    order = edge.store.load(order_key(edge.run.project, edge.run.run_id), DatasetOrder)
    return list(order.parts)


def _refuse_large(edge: Edge, cleaned: list[CleanManifest]) -> None:
    """Leave Spark its order where the parts are more than a function reads.

    Raises:
        TooLargeError: they are; the state machine starts the job.
    """
    project, settings = edge.run.project, ValidateSettings.from_environment()
    keys = [clean_key(project, made.hash, name) for made in cleaned for name in made.files]
    size = sum(map(edge.store.size, keys))
    if size > settings.max_bytes:
        order = DatasetOrder(tuple(made.hash for made in cleaned), settings.training_instance)
        edge.store.save(order_key(project, edge.run.run_id), order)
        raise TooLargeError(
            f"The project's clean parts have {size:,} bytes; a function takes"
            f" {settings.max_bytes:,}.",
            hint=spark_job.HINT,
        )


def _estimates(edge: Edge, manifest: DatasetManifest) -> tuple[Estimate, ...]:
    instance = ValidateSettings.from_environment().training_instance
    return estimates(edge.config, manifest.train_tokens, instance)


def _built(edge: Edge, addresses: list[str], address: str) -> DatasetManifest:
    """Build the dataset; its manifest is written last, so that half a result is no result."""
    project, store = edge.run.project, edge.store
    cleaned = [store.load(clean_key(project, part), CleanManifest) for part in addresses]
    _refuse_large(edge, cleaned)
    with ExitStack() as files:
        parts = []
        for manifest in cleaned:
            file = files.enter_context(TemporaryFile())
            for name in manifest.files:
                store.fetch(clean_key(project, manifest.hash, name), None, file)
            parts.append(Part(manifest.hash, file))
        dataset = build_dataset(parts, edge.config, batch_count)
        made = dataset_manifest(project, address, addresses, dataset)
        with TemporaryDirectory() as folder:
            for path in written(Path(folder), made, dataset, cleaned, _estimates(edge, made)):
                store.upload(dataset_key(project, address, path.name), path)
    store.save(dataset_key(project, address), made)
    return made
