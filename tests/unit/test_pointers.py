"""Who answers: every move one revision, with its history and what becomes of the versions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from dropforge.backends import pointers
from dropforge.backends.registry import Registry
from dropforge.errors import PromotionError, RetryableError
from tests.support.tables import create_table

ABOUT: dict[str, Any] = {"who": "ann", "why": "better", "at": 10.5}
BASE = {"backend": "openai", "model_id": "small"}


def model(version: str) -> dict[str, Any]:
    return {"version": version, "backend": "openai", "model_id": f"ft:{version}"}


def challenger(version: str, run_id: str = "run-1", share: float = 0.1) -> dict[str, Any]:
    how = {"share": share, "shadow": False, "step": 0, "slow_seconds": 10, "sticky": "user"}
    return {**model(version), **how, "run_id": run_id}


@pytest.fixture(scope="module")
def table(moto: None) -> str:
    create_table("pointers")
    return "pointers"


@pytest.fixture
def registry(table: str) -> Iterator[Registry]:
    found = Registry(table)
    for version in ("v1", "v2", "v3"):
        found.put("shop", f"model#{version}", model(version))
    yield found
    dynamodb = boto3.resource("dynamodb").Table(table)
    for item in dynamodb.scan()["Items"]:
        dynamodb.delete_item(Key={"pk": item["pk"], "sk": item["sk"]})


def promote(registry: Registry, version: str, **more: Any) -> dict[str, Any]:
    return pointers.promote(registry, "shop", model(version), **{**ABOUT, **more})


def start(registry: Registry, version: str, **more: Any) -> dict[str, Any]:
    canary = challenger(version, **more)
    return pointers.start_canary(registry, "shop", canary, base=BASE, **ABOUT)


def history(registry: Registry) -> list[tuple[int, str, str]]:
    moves = registry.items("shop", "move#")
    return [(move["revision"], move["action"], move["version"]) for move in moves]


def standing(registry: Registry, version: str) -> str:
    return str((registry.model("shop", version) or {})["standing"])


def stored(registry: Registry) -> dict[str, Any]:
    return registry.get("shop", "champion") or {}


def test_champion_moves_and_remembers_the_previous(registry: Registry) -> None:
    assert registry.champion("shop") is None
    promote(registry, "v1")
    assert promote(registry, "v2", who="bob") == {
        **model("v2"),
        "previous": "v1",
        "revision": 2,
        "who": "bob",
        "why": "better",
        "at": 10.5,
    }
    assert history(registry) == [(1, "promote", "v1"), (2, "promote", "v2")]
    assert [standing(registry, v) for v in ("v1", "v2", "v3")] == ["promoted", "promoted", ""]


def test_champion_promoted_again_keeps_its_previous(registry: Registry) -> None:
    promote(registry, "v1")
    promote(registry, "v2")
    assert promote(registry, "v2")["previous"] == "v1"


def test_history_is_the_item_as_it_was_written(registry: Registry) -> None:
    promote(registry, "v1", run_id="r7")
    start(registry, "v2")
    first, second = registry.items("shop", "move#")
    now = {name: value for name, value in stored(registry).items() if name not in ("pk", "sk")}
    moved = {name: value for name, value in second.items() if name not in ("pk", "sk")}
    assert moved == {**now, "action": "canary", "run_id": "run-1"}
    assert (first["action"], first["run_id"]) == ("promote", "r7")


def test_pointer_moved_by_another_meanwhile_stays(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    promote(registry, "v1")
    stale = registry.champion("shop")
    promote(registry, "v2")
    before = (stored(registry), history(registry))
    monkeypatch.setattr(registry, "champion", lambda project: stale)
    moves: tuple[Callable[[], Any], ...] = (
        lambda: promote(registry, "v3"),
        lambda: start(registry, "v3"),
    )
    for move in moves:
        with pytest.raises(PromotionError, match="Somebody else"):
            move()
    monkeypatch.undo()
    assert (stored(registry), history(registry)) == before
    assert standing(registry, "v3") == "", "nothing of a lost race is written"


def test_two_first_promotions_at_once_are_one(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    promote(registry, "v1")
    monkeypatch.setattr(registry, "champion", lambda project: None)
    with pytest.raises(PromotionError, match="Somebody else"):
        promote(registry, "v2")


@pytest.mark.parametrize(
    ("reasons", "expected"),
    [
        (["None", "ConditionalCheckFailed"], PromotionError),
        (["TransactionConflict", "None"], PromotionError),
        (["ThrottlingError", "None"], RetryableError),
        (["ValidationError"], ClientError),
    ],
)
def test_why_a_transaction_was_cancelled_decides_what_is_told(
    registry: Registry,
    monkeypatch: pytest.MonkeyPatch,
    reasons: list[str],
    expected: type[Exception],
) -> None:
    def cancelled(**_: Any) -> None:
        error: Any = {
            "Error": {"Code": "TransactionCanceledException", "Message": "cancelled"},
            "CancellationReasons": [{"Code": reason} for reason in reasons],
        }
        raise ClientError(error, "TransactWriteItems")

    monkeypatch.setattr(registry._table.meta.client, "transact_write_items", cancelled)
    with pytest.raises(expected):
        promote(registry, "v1")


def test_rollback_puts_the_previous_back_once(registry: Registry) -> None:
    promote(registry, "v1")
    with pytest.raises(PromotionError, match="no previous champion"):
        pointers.roll_back(registry, "shop", **ABOUT)
    promote(registry, "v2")
    back = pointers.roll_back(registry, "shop", **ABOUT)
    assert (back["version"], back["model_id"], back["previous"]) == ("v1", "ft:v1", "v2")
    assert standing(registry, "v2") == "rolled back"
    with pytest.raises(PromotionError, match="itself rolled back"):
        pointers.roll_back(registry, "shop", **ABOUT)
    promote(registry, "v2")
    assert standing(registry, "v2") == "promoted"


def test_rollback_to_the_base_model_finds_it_in_the_history(registry: Registry) -> None:
    start(registry, "v1")
    promote(registry, "v1")
    back = pointers.roll_back(registry, "shop", **ABOUT)
    assert (back["version"], back["model_id"]) == ("base", "small")
    assert standing(registry, "v1") == "rolled back"
    assert registry.get("shop", "standing#base") is None


def test_first_canary_stands_beside_the_base_model(registry: Registry) -> None:
    item = start(registry, "v1")
    assert (item["version"], item["model_id"], item["previous"]) == ("base", "small", None)
    assert item["canary"] == {**challenger("v1"), "id": 1, "step_at": 10.5, "started_at": 10.5}


def test_first_canary_without_a_base_that_answers_is_refused(registry: Registry) -> None:
    with pytest.raises(PromotionError, match="base model cannot be asked"):
        pointers.start_canary(registry, "shop", challenger("v1"), base=None, **ABOUT)
    assert registry.champion("shop") is None


def test_canary_leaves_the_champion_and_its_previous(registry: Registry) -> None:
    promote(registry, "v1")
    promote(registry, "v2")
    item = start(registry, "v3")
    assert (item["version"], item["previous"], item["canary"]["id"]) == ("v2", "v1", 3)


def test_second_canary_is_refused_while_one_runs(registry: Registry) -> None:
    promote(registry, "v1")
    start(registry, "v2")
    with pytest.raises(PromotionError, match="running already, of v2"):
        start(registry, "v3")
    assert stored(registry)["canary"]["version"] == "v2"


def test_step_raises_the_share_and_its_time_alone(registry: Registry) -> None:
    before = start(registry, "v1")["canary"]
    later = {**ABOUT, "at": 99.0}
    item = pointers.step_canary(registry, "shop", "v1", step=1, share=0.5, **later)
    changed = {"step": 1, "share": 0.5, "step_at": 99.0}
    assert item["canary"] == {**before, **changed}
    assert history(registry)[-1] == (2, "step", "base")


def test_canary_that_is_over_cannot_be_stepped_or_finished(registry: Registry) -> None:
    promote(registry, "v1")
    start(registry, "v2")
    assert pointers.end_canary(registry, "shop", "v2", **ABOUT)
    with pytest.raises(PromotionError, match="is over"):
        pointers.step_canary(registry, "shop", "v2", step=1, share=0.5, **ABOUT)
    with pytest.raises(PromotionError, match="is over"):
        promote(registry, "v2", from_canary=True)
    assert stored(registry)["version"] == "v1"


def test_canary_is_ended_once_and_marks_its_version(registry: Registry) -> None:
    promote(registry, "v1")
    start(registry, "v2")
    assert not pointers.end_canary(registry, "shop", "v3", **ABOUT)
    assert pointers.end_canary(registry, "shop", "v2", **ABOUT)
    assert not pointers.end_canary(registry, "shop", "v2", **ABOUT)
    assert "canary" not in stored(registry)
    assert history(registry)[-1] == (3, "canary ended", "v1")
    assert standing(registry, "v2") == "rolled back"


def test_canary_ended_without_blame_leaves_its_version_as_it_was(registry: Registry) -> None:
    start(registry, "v1")
    assert pointers.end_canary(registry, "shop", "v1", **ABOUT, rolled_back=False)
    assert standing(registry, "v1") == ""


def test_promotion_ends_any_canary(registry: Registry) -> None:
    promote(registry, "v1")
    start(registry, "v2")
    promote(registry, "v3")
    assert "canary" not in stored(registry)
    assert stored(registry)["previous"] == "v1"


def test_stop_ends_whatever_runs_of_the_run_that_is_named(registry: Registry) -> None:
    assert pointers.stop_canary(registry, "shop", **ABOUT) is None
    start(registry, "v1", run_id="mine")
    assert pointers.stop_canary(registry, "shop", **ABOUT, run_id="other") is None
    assert pointers.stop_canary(registry, "shop", **ABOUT, run_id="mine") == "v1"
    assert "canary" not in stored(registry)


def test_stop_wins_against_others_who_move_the_pointer(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    promote(registry, "v1")
    start(registry, "v2")
    write, left = registry.write_pointer, [3]

    def disturbed(*arguments: Any, **more: Any) -> bool:
        if left[0]:
            left[0] -= 1
            return False
        return write(*arguments, **more)

    monkeypatch.setattr(registry, "write_pointer", disturbed)
    assert pointers.stop_canary(registry, "shop", **ABOUT) == "v2"
    promote(registry, "v1")
    start(registry, "v3")
    left[0] = 100
    with pytest.raises(PromotionError):
        pointers.stop_canary(registry, "shop", **ABOUT)


def test_run_finds_what_it_did(registry: Registry) -> None:
    promote(registry, "v1", run_id="r1")
    start(registry, "v2", run_id="r2")
    promote(registry, "v2", run_id="r2", from_canary=True)
    assert [m["action"] for m in pointers.moved_by(registry, "shop", "r2")] == ["canary", "promote"]
    assert pointers.moved_by(registry, "shop", "r3") == []
