"""Spark keeps, removes and tells exactly what the single machine does, however it is cut."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
from toktok import batch_count

from dropforge.artifacts import (
    CleanManifest,
    DatasetManifest,
    DatasetOrder,
    Source,
    clean_key,
    dataset_key,
    order_key,
    part_name,
    project_snapshot_key,
    rejected_key,
)
from dropforge.backends import spark_job
from dropforge.backends.store import Store
from dropforge.chat import encode_lines
from dropforge.clean import Cleaning, Summary, spark_hash
from dropforge.clean.prepare import Rules
from dropforge.cost import estimates
from dropforge.errors import DropforgeError
from dropforge.export import read
from dropforge.project import ProjectConfig, parse_project
from dropforge.validate import Part, build_dataset, dataset_hash
from dropforge.validate.files import dataset_manifest, written
from tests.spark.conftest import BUCKET, spark
from tests.spark.corpora import corpora, mixed, templates

CONFIG = "backend: openai\nmodel: gpt-4o-mini\n"
LIMITED = CONFIG + "training: {max_rows: 60, max_length: 110}\n"
FAILS = {"broken": "TooManyRejectedError", "cut": "SchemaError"}
CASES = [(name, n) for name, (_, cuts) in corpora().items() for n in cuts]


class Cleaned(NamedTuple):
    kept: bytes
    rejected: bytes
    summary: Summary | None
    error: str


class World:
    """What both ways made of every corpus."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.config = parse_project("shop", CONFIG)
        self.single: dict[str, Cleaned] = {}
        self.specs: list[dict[str, Any]] = []
        self.addresses: dict[str, str] = {}
        self.folder = Path()
        self.datasets: dict[str, DatasetManifest] = {}

    def clean(self, name: str, data: bytes, cuts: tuple[int, ...]) -> None:
        self.single[name] = alone(data, self.config)
        for n in cuts:
            self.specs.append(self.spec("clean", f"{name}-{n}", data, n))

    def spec(self, stage: str, project: str, data: bytes, n: int) -> dict[str, Any]:
        key = f"exports/{project}/export"
        self.store.write(key, data)
        version = self.store._s3.head_object(Bucket=BUCKET, Key=key)["VersionId"]
        config = self.configure(project, self.config)
        identity, _ = self.store.identity(key, version)
        mapping = [self.config.columns.model_dump(), self.config.roles.model_dump()]
        self.addresses[project] = spark_hash(identity, mapping, Rules.of(self.config))
        run = ("run", project, BUCKET, key, version, config)
        names = ("run_id", "project", "bucket", "key", "version_id", "config")
        sizes = {
            "tasks": min(n, 2),
            "range": -(-len(data) // n),
            "rows_a_part": 350 if n > 1 else 10**6,
        }
        return {"stage": stage, "run": dict(zip(names, run, strict=True)), **sizes}

    def configure(self, project: str, config: ProjectConfig) -> str:
        key = project_snapshot_key(project, config.hash)
        self.store.write(key, config.model_dump_json())
        return config.hash

    def order(self, project: str, text: str, exports: list[bytes], folder: Path) -> None:
        """A dataset to be built both ways; each export's part is two files."""
        config = parse_project(project, text)
        parts, manifests = [], []
        for n, data in enumerate(exports):
            found = alone(data, config)
            assert found.summary
            lines = found.kept.splitlines(keepends=True)
            halves = lines[: len(lines) // 2], lines[len(lines) // 2 :]
            address, names = f"{n:064d}", (part_name(0), part_name(1))
            for name, half in zip(names, halves, strict=True):
                self.store.write(clean_key(project, address, name), b"".join(half))
            source = Source(BUCKET, f"exports/{project}/{n}", "v", "s", len(data))
            told = msgspec.structs.asdict(found.summary)
            manifests.append(CleanManifest(project, address, source, "jsonl", files=names, **told))
            self.store.save(clean_key(project, address), manifests[-1])
            parts.append(Part(address, io.BytesIO(found.kept)))
        addresses = [manifest.hash for manifest in manifests]
        self.store.save(order_key(project, "run"), DatasetOrder(tuple(addresses), ""))
        dataset = build_dataset(parts, config, batch_count)
        made = dataset_manifest(project, dataset_hash(addresses, config), addresses, dataset)
        self.datasets[project] = made
        (folder / project).mkdir()
        costs = estimates(config, made.train_tokens, "")
        list(written(folder / project, made, dataset, manifests, costs))
        self.folder = folder
        spec = self.spec("validate", project, b"-", 2)
        spec["run"]["config"] = self.configure(project, config)
        self.specs.append(spec)


def _reworded(data: bytes) -> bytes:
    """The same rows, half of them with another word in the answer."""
    lines = data.splitlines(keepends=True)
    half = len(lines) // 2
    return b"".join(line.replace(b'."', b' indeed."') for line in lines[:half]) + b"".join(
        lines[half:]
    )


def alone(data: bytes, config: ProjectConfig) -> Cleaned:
    """What one machine makes of an export."""
    cleaning = Cleaning(Rules.of(config))
    kept, rejected = bytearray(), bytearray()
    try:
        for batch in cleaning.batches(read(io.BytesIO(data), config.columns, config.roles)):
            kept += encode_lines(batch.kept)
            rejected += encode_lines(batch.rejected)
        return Cleaned(bytes(kept), bytes(rejected), cleaning.summary(), "")
    except DropforgeError as error:
        return Cleaned(b"", b"", None, str(error))


@pytest.fixture(scope="session")
def world(aws: dict[str, str], s3: Any, tmp_path_factory: pytest.TempPathFactory) -> World:
    made = World(Store(BUCKET, s3))
    for name, (data, cuts) in corpora().items():
        made.clean(name, data, cuts)
    folder = tmp_path_factory.mktemp("datasets")
    exports = [mixed(21, 300), mixed(22, 200) + _reworded(mixed(21, 90)), templates(23, 120)]
    made.order("several", CONFIG, exports, folder)
    made.order("limited", LIMITED, [mixed(24, 500)], folder)
    data, _ = corpora()["broken"]
    made.specs.append(made.spec("script", "script", data[data.index(b'{"ticket') :], 2))
    print(spark(aws, made.specs))
    return made


@pytest.mark.parametrize(("name", "n"), [case for case in CASES if case[0] not in FAILS])
def test_clean_keeps_the_same_rows_however_they_are_cut(world: World, name: str, n: int) -> None:
    project, wanted = f"{name}-{n}", world.single[name]
    address = world.addresses[project]
    manifest = spark_job.result(world.store, clean_key(project, address), CleanManifest)
    parts = [world.store.read(clean_key(project, address, file)) for file in manifest.files]
    lost = [world.store.read(rejected_key(project, address, file)) for file in manifest.files]
    assert (len(parts) > 1) == (n > 1 and manifest.read > 350)
    assert b"".join(parts) == wanted.kept
    assert b"".join(lost) == wanted.rejected
    # Encoded, so that the order of what is counted is compared as well.
    summary = {field: getattr(manifest, field) for field in Summary.__struct_fields__}
    assert msgspec.json.encode(summary) == msgspec.json.encode(wanted.summary)


def test_entry_point_runs_as_a_script(world: World) -> None:
    key = clean_key("script", world.addresses["script"])
    assert spark_job.result(world.store, key, CleanManifest).read == 40


def test_the_corpora_plant_what_they_promise(world: World) -> None:
    summary = world.single["everything"].summary
    assert summary
    assert len(summary.rejected) >= 9
    assert summary.rejected["duplicate"] > 50
    assert summary.rejected["near-duplicate"] > 100
    assert summary.topics["other"] > 0
    assert max(summary.cluster_sizes) > 50


@pytest.mark.parametrize("name", FAILS)
def test_clean_fails_with_the_same_words(world: World, name: str) -> None:
    key = clean_key(f"{name}-2", world.addresses[f"{name}-2"])
    with pytest.raises(DropforgeError) as raised:
        spark_job.result(world.store, key, CleanManifest)
    assert str(raised.value) == world.single[name].error
    assert type(raised.value).__name__ == FAILS[name]


@pytest.mark.parametrize("project", ["several", "limited"])
def test_validate_builds_the_same_dataset(world: World, project: str) -> None:
    wanted = world.datasets[project]
    key = dataset_key(project, wanted.hash)
    assert spark_job.result(world.store, key, DatasetManifest) == wanted
    assert wanted.left_out
    for path in sorted((world.folder / project).iterdir()):
        assert world.store.read(dataset_key(project, wanted.hash, path.name)) == path.read_bytes()
    assert json.loads(world.store.read(dataset_key(project, wanted.hash, "report.json")))


def test_validate_plants_repeats_across_parts(world: World) -> None:
    left_out = world.datasets["several"].left_out
    assert {"duplicate of another export's row", "near-duplicate of another export's row"} <= {
        *left_out
    }
    assert "over training.max_rows" in world.datasets["limited"].left_out
    assert "longer than the model takes" in world.datasets["limited"].left_out
