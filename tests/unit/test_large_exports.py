"""What is too large for a function: told to the state machine, and taken from Spark afterwards."""

from __future__ import annotations

from typing import Any

import pytest

from dropforge.artifacts import (
    CleanManifest,
    DatasetManifest,
    DatasetOrder,
    Source,
    clean_key,
    dataset_key,
    order_key,
)
from dropforge.backends import spark_job
from dropforge.clean import spark_hash
from dropforge.clean.prepare import Rules
from dropforge.errors import BackendError, SchemaError, TooLargeError
from dropforge.project import parse_project
from dropforge.validate import dataset_hash
from lambdas.clean import handler as clean
from lambdas.validate import handler as validate
from tests.support.world import PROJECT, World

CONFIG = parse_project("shop", PROJECT)
ROW = (
    b'{"question": "Where is my parcel?", "answer": "It is on its way to you, and comes today."}\n'
)


@pytest.fixture
def state(world: World, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A run of an export that is larger than functions take here."""
    monkeypatch.setenv("DROPFORGE_MAX_BYTES", str(len(ROW)))
    return world.drop(ROW * 2, "exports/shop/t.jsonl")


def address_of(world: World, state: dict[str, Any]) -> str:
    run = state["run"]
    identity, _ = world.store.identity(run["key"], run["version_id"])
    mapping = [CONFIG.columns.model_dump(), CONFIG.roles.model_dump()]
    return spark_hash(identity, mapping, Rules.of(CONFIG))


def made(address: str) -> CleanManifest:
    source = Source("b", "exports/shop/t.jsonl", "v", "s3:sum", 200)
    return CleanManifest("shop", address, source, "jsonl", 2, 1, {"duplicate": 1}, {}, {})


def test_clean_gives_a_large_file_to_spark(world: World, state: dict[str, Any]) -> None:
    with pytest.raises(TooLargeError, match="a function cleans") as raised:
        clean.handler(state, None)
    assert "spark.image" in str(raised.value)
    assert not world.listed("clean/")


def test_clean_takes_what_spark_has_made(world: World, state: dict[str, Any]) -> None:
    address = address_of(world, state)
    world.store.save(clean_key("shop", address), made(address))
    answer = clean.handler({**state, "spark": {"stage": "clean"}}, None)
    assert answer == {"hash": address, "read": 2, "kept": 1}
    [item] = world.registry.items("shop", "clean#")
    assert (item["hash"], item["sha256"]) == (address, "s3:sum")
    # A rerun finds it in place, and asks for no job.
    assert clean.handler(state, None) == answer


def test_clean_fails_with_the_error_that_spark_reported(
    world: World, state: dict[str, Any]
) -> None:
    key = clean_key("shop", address_of(world, state))
    spark_job.report(world.store, key, SchemaError("The file is odd.", hint="Look at it."))
    with pytest.raises(SchemaError, match=r"SCHEMA: The file is odd\. Look at it\."):
        clean.handler({**state, "spark": {"stage": "clean"}}, None)


def test_clean_says_so_where_spark_left_nothing(world: World, state: dict[str, Any]) -> None:
    with pytest.raises(BackendError, match="The Spark job has ended without clean/shop/"):
        clean.handler({**state, "spark": {"stage": "clean"}}, None)


def test_validate_orders_a_large_dataset_and_takes_it(
    world: World, state: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    address = address_of(world, state)
    world.store.write(clean_key("shop", address, "part.jsonl"), ROW * 2)
    world.store.save(clean_key("shop", address), made(address))
    state = {**state, "spark": {"stage": "clean"}}
    state["clean"] = clean.handler(state, None)
    # That clean came from Spark does not mean that validate did.
    with pytest.raises(TooLargeError, match="clean parts have"):
        validate.handler(state, None)
    run_id = state["run"]["run_id"]
    order = world.store.load(order_key("shop", run_id), DatasetOrder)
    assert order == DatasetOrder((address,), "")

    dataset = dataset_hash([address], CONFIG)
    counts = {"train": 100, "validation": 10, "test": 10}
    tokens = {"o200k_base": 1000, "cl100k_base": 1000}
    manifest = DatasetManifest(
        "shop", dataset, (address,), counts, counts, 120, {}, (), train_tokens=tokens
    )
    world.store.save(dataset_key("shop", dataset), manifest)
    # Meanwhile another file was cleaned: the order still says what was built.
    world.registry.put(
        "shop", "clean#x", {"hash": "x", "key": "k", "sha256": "x", "at": 0, "first_at": 0}
    )
    answer = validate.handler({**state, "spark": {"stage": "validate"}}, None)
    assert answer == {"hash": dataset, "examples": counts}


def test_an_unknown_error_of_a_job_is_a_backend_error() -> None:
    told = spark_job.JobError("NoSuchError", "It broke.")
    assert isinstance(spark_job.revived(told), BackendError)
