from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from math import inf, nan

import boto3
import pytest
from boto3.dynamodb.conditions import Attr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dropforge.backends.registry import FAILED, RUNNING, SUCCEEDED, Registry
from tests.support.tables import create_table


@pytest.fixture(scope="module")
def table(moto: None) -> str:
    create_table("registry")
    return "registry"


@pytest.fixture
def registry(table: str) -> Iterator[Registry]:
    yield Registry(table)
    dynamodb = boto3.resource("dynamodb").Table(table)
    for item in dynamodb.scan()["Items"]:
        dynamodb.delete_item(Key={"pk": item["pk"], "sk": item["sk"]})


def runs(registry: Registry, **statuses: str) -> None:
    for run_id, status in statuses.items():
        registry.put("shop", f"run#{run_id}", {"run_id": run_id, "status": status})


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**15), 10**15)
    | st.floats(-1e15, 1e15, allow_subnormal=False).filter(lambda x: x == 0 or abs(x) > 1e-100)
    | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("xyz", min_size=1), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(value=values)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_plain_values_come_back_as_they_were(registry: Registry, value: object) -> None:
    registry.put("shop", "x", {"value": value})
    assert (registry.get("shop", "x") or {})["value"] == value


@pytest.mark.parametrize("value", [nan, inf, -inf])
def test_what_is_no_number_is_stored_as_none(registry: Registry, value: float) -> None:
    """The loss of a training that diverged must not stop the run's bookkeeping."""
    registry.put("shop", "x", {"progress": {"train_loss": value}})
    assert (registry.get("shop", "x") or {})["progress"] == {"train_loss": None}


def test_missing_item_is_none(registry: Registry) -> None:
    assert registry.get("shop", "model#x") is None


def test_new_item_is_written_once(registry: Registry) -> None:
    assert registry.put_new("shop", "model#v1", {"model_id": "first"})
    assert not registry.put_new("shop", "model#v1", {"model_id": "second"})
    assert (registry.get("shop", "model#v1") or {})["model_id"] == "first"


def test_update_reaches_into_a_map_and_leaves_the_rest(registry: Registry) -> None:
    registry.put("shop", "run#1", {"status": RUNNING, "judged": {"batch0": 8}})
    registry.update("shop", "run#1", {"judged.batch1": 4, "stage": "judge"})
    found = registry.get("shop", "run#1") or {}
    assert found["judged"] == {"batch0": 8, "batch1": 4}
    assert (found["status"], found["stage"]) == (RUNNING, "judge")


def test_items_are_those_of_the_prefix_and_project_alone(registry: Registry) -> None:
    for project, sk in [("shop", "run#1"), ("shop", "run#2"), ("shop", "model#1"), ("s", "run#3")]:
        registry.put(project, sk, {})
    assert [item["sk"] for item in registry.items("shop", "run#")] == ["run#1", "run#2"]


def test_items_are_complete_over_many_pages(registry: Registry) -> None:
    for i in range(5):
        registry.put("shop", f"clean#{i}", {"filler": "x" * 350_000})
    assert len(registry.items("shop", "clean#")) == 5


def test_items_are_those_that_meet_a_condition_with_what_is_asked_for(registry: Registry) -> None:
    for i in range(6):
        item = {
            "at": i + 0.5,
            "arm": "champion" if i % 2 else "challenger",
            "filler": "x" * 350_000,
        }
        registry.put("shop", f"feedback#v1#{i}", item)
    where = Attr("arm").eq("champion") & Attr("at").gte(Decimal("1.5"))
    found = registry.items("shop", "feedback#v1#", where=where, only=("at", "arm"))
    assert found == [{"at": at, "arm": "champion"} for at in (1.5, 3.5, 5.5)]


def test_projects_are_those_with_a_configuration(registry: Registry) -> None:
    for name in ("shop", "bank", "shop"):
        registry.put_config(name, {"hash": "h"})
    assert registry.projects() == ["bank", "shop"]


def test_drop_is_claimed_by_the_first_run(registry: Registry) -> None:
    assert registry.claim_drop("shop", "content", "one") == "one"
    runs(registry, one=RUNNING)
    assert registry.claim_drop("shop", "content", "two") == "one"
    assert registry.claim_drop("shop", "content", "one") == "one"
    assert registry.claim_drop("shop", "other", "two") == "two"
    assert registry.claim_drop("bank", "content", "two") == "two"


@pytest.mark.parametrize(
    ("status", "holder"), [(FAILED, "two"), (SUCCEEDED, "one"), (RUNNING, "one")]
)
def test_claim_passes_on_after_a_failure_alone(
    registry: Registry, status: str, holder: str
) -> None:
    registry.claim_drop("shop", "content", "one")
    runs(registry, one=status)
    assert registry.claim_drop("shop", "content", "two") == holder
    assert registry.claim_drop("shop", "content", "two") == holder


@pytest.mark.parametrize(
    ("noted", "standing", "holder"),
    [
        ({"not_promoted": "the canary was ended by alarm"}, None, "two"),
        ({"not_promoted": "the canary ended: errors"}, "rolled back", "one"),
        ({"not_promoted": "v2 answers already"}, "promoted", "two"),
        ({"not_promoted": ""}, None, "one"),
        ({"promoted": False}, None, "one"),
        ({"promoted": True}, "promoted", "one"),
    ],
)
def test_claim_passes_on_from_a_model_that_was_left_and_is_not_rolled_back(
    registry: Registry, noted: dict[str, object], standing: str | None, holder: str
) -> None:
    registry.claim_drop("shop", "content", "one")
    registry.claim_job("shop", "spec", 1, "one")
    run = {"run_id": "one", "status": SUCCEEDED, "train": {"version": "v2"}, **noted}
    registry.put("shop", "run#one", run)
    if standing:
        registry.put("shop", "standing#v2", {"state": standing})
    assert registry.claim_drop("shop", "content", "two") == holder
    assert registry.claim_drop("shop", "content", "three") == holder
    assert not registry.claim_job("shop", "spec", 1, "two"), "a trained job is not begun anew"


def test_claim_of_a_run_not_yet_noted_stands(registry: Registry) -> None:
    registry.claim_drop("shop", "content", "one")
    assert registry.claim_drop("shop", "content", "two") == "one"


def test_of_many_claims_at_once_one_wins(registry: Registry) -> None:
    registry.claim_drop("shop", "content", "old")
    runs(registry, old=FAILED)
    with ThreadPoolExecutor(8) as pool:
        names = [f"run{i}" for i in range(16)]
        found = set(pool.map(lambda name: registry.claim_drop("shop", "content", name), names))
    assert len(found) == 1
    assert found < set(names)


def test_job_is_claimed_by_one_run_until_it_fails(registry: Registry) -> None:
    runs(registry, one=RUNNING)
    assert registry.claim_job("shop", "spec", 1, "one")
    assert not registry.claim_job("shop", "spec", 1, "two")
    assert registry.claim_job("shop", "spec", 2, "two")
    runs(registry, one=FAILED)
    assert registry.claim_job("shop", "spec", 1, "two")
    assert not registry.claim_job("shop", "spec", 1, "one")


def test_model_is_read_with_what_became_of_it(registry: Registry) -> None:
    for version in ("v1", "v2"):
        registry.put("shop", f"model#{version}", {"version": version, "status": "trained"})
    registry.put("shop", "standing#v1", {"state": "rolled back", "who": "ann"})
    registry.put("shop", "shutdown#v2", {"shutdown": "2027-01-14", "shutdown_from": "x"})
    first, second = registry.models("shop")
    assert (first["version"], first["standing"]) == ("v1", "rolled back")
    assert "shutdown" not in first
    assert (second["standing"], second["shutdown"]) == ("", "2027-01-14")
    assert [registry.model("shop", v) for v in ("v1", "v2")] == [first, second]
    assert registry.model("shop", "v3") is None
