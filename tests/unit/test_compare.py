"""`dropforge compare`: what it collects from the registry and the bucket."""

from __future__ import annotations

import webbrowser
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from dropforge.artifacts import DatasetManifest, dataset_key, evaluation_key
from dropforge.cli.compare import collect
from dropforge.cli.deployment import Deployment
from tests.support.evaluations import samples, verdict
from tests.support.world import World

Dropforge = Callable[..., Result]
MODEL = {"backend": "openai", "base_model": "gpt-4.1-mini", "status": "trained", "spec": "s"}


@pytest.fixture(autouse=True)
def _empty_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


def give(world: World, version: str, at: float, *, judged: bool = True, **more: Any) -> None:
    item = {**MODEL, "version": version, "model_id": f"ft:{version}", "created_at": at}
    world.registry.put("shop", f"model#{version}", {**item, "dataset": "d1", **more})
    if judged:
        address = f"e-{version}"
        found = verdict(samples(40, 0.85, seed=int(at)), version=version, hash=address)
        world.store.save(evaluation_key("shop", address), found)
        summary = {"hash": address, "version": version, "verdict": "promote", "at": at + 10}
        world.registry.put("shop", f"evaluation#{address}", {**summary, "dataset": "d1"})


def give_dataset(world: World) -> None:
    manifest = DatasetManifest(
        project="shop",
        hash="d1",
        parts=("c",),
        examples={"train": 380, "validation": 24, "test": 66},
        tokens={"train": 100_000, "validation": 0, "test": 0},
        read=470,
        left_out={},
        warnings=(),
        train_tokens={"o200k_base": 100_000, "cl100k_base": 100_000},
    )
    world.store.save(dataset_key("shop", "d1"), manifest)


def test_compare_writes_the_page_and_prints_the_table(
    dropforge: Dropforge, world: World, tmp_path: Path
) -> None:
    give_dataset(world)
    give(world, "v1", 1)
    give(world, "v2", 2)
    world.registry.put("shop", "champion", {"version": "v1", "revision": 1, "previous": None})
    result = dropforge("compare", "-p", "shop")
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert [line.split()[0] for line in lines[:3]] == ["version", "v1", "v2"]
    assert "champion" in lines[1]
    assert "$1.50" in lines[1]  # 3 epochs of 100,000 tokens at $5 a million
    assert lines[-1] == "shop-models.html written"
    page = (tmp_path / "shop-models.html").read_text()
    assert "The models of shop" in page
    assert "380 rows" in page


def test_page_goes_where_it_is_told_and_is_opened(
    dropforge: Dropforge, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    give(world, "v1", 1)
    target = tmp_path / "mine.html"
    result = dropforge("compare", "-p", "shop", "--out", str(target), "--open")
    assert result.exit_code == 0, result.output
    assert target.exists()
    assert opened == [target.as_uri()]


def test_project_without_models_is_told_so(dropforge: Dropforge, tmp_path: Path) -> None:
    result = dropforge("compare", "-p", "shop")
    assert result.exit_code == 0
    assert result.output == "shop has no model yet.\n"
    assert list(tmp_path.iterdir()) == []


def test_versions_without_dataset_or_evaluation_are_shown_too(
    dropforge: Dropforge, world: World
) -> None:
    give(world, "v1", 1, judged=False)
    result = dropforge("compare", "-p", "shop")
    assert result.exit_code == 0, result.output
    assert "not judged" in result.output


def test_standing_is_read_from_the_pointers(dropforge: Dropforge, world: World) -> None:
    for at, version in enumerate(("old", "previous", "now", "next", "plain")):
        give(world, version, at, judged=False)
    canary = {"version": "next", "share": 0.1, "shadow": False}
    pointer = {"version": "now", "previous": "previous", "revision": 4, "canary": canary}
    world.registry.put("shop", "champion", pointer)
    world.registry.put("shop", "standing#old", {"state": "rolled back"})
    assert {c.version: c.standing for c in collect(Deployment(), "shop")} == {
        "old": "rolled back",
        "previous": "previous",
        "now": "champion",
        "next": "canary 10%",
        "plain": "",
    }


def test_previous_version_that_was_rolled_back_is_called_so(
    dropforge: Dropforge, world: World
) -> None:
    give(world, "bad", 1, judged=False)
    world.registry.put("shop", "champion", {"version": "now", "previous": "bad", "revision": 2})
    world.registry.put("shop", "standing#bad", {"state": "rolled back"})
    assert [c.standing for c in collect(Deployment(), "shop")] == ["rolled back"]


def test_end_of_a_model_is_told(dropforge: Dropforge, world: World, tmp_path: Path) -> None:
    give(world, "v1", 1, judged=False)
    world.registry.put(
        "shop", "shutdown#v1", {"shutdown": "2027-01-14", "shutdown_from": "the provider's list"}
    )
    assert dropforge("compare", "-p", "shop").exit_code == 0
    assert "openai, ends 2027-01-14" in (tmp_path / "shop-models.html").read_text()


def test_newest_evaluation_of_a_version_counts(dropforge: Dropforge, world: World) -> None:
    give(world, "v1", 1)
    again = verdict(samples(40, 0.5, seed=9), version="v1", hash="e-again")
    world.store.save(evaluation_key("shop", "e-again"), again)
    summary = {"hash": "e-again", "version": "v1", "verdict": "reject", "at": 99.0}
    world.registry.put("shop", "evaluation#e-again", {**summary, "dataset": "d1"})
    (found,) = collect(Deployment(), "shop")
    assert found.verdict == again
    assert found.judged_at == 99


def test_verdict_that_cannot_be_read_counts_as_none(dropforge: Dropforge, world: World) -> None:
    give(world, "v1", 1)
    world.store.write(evaluation_key("shop", "e-v1"), '{"evaluation": 1}')
    (found,) = collect(Deployment(), "shop")
    assert found.verdict is None


def test_many_versions_are_cut_in_the_terminal_and_whole_on_the_page(
    dropforge: Dropforge, world: World, tmp_path: Path
) -> None:
    for number in range(35):
        give(world, f"v{number:02d}", number, judged=False)
    result = dropforge("compare", "-p", "shop")
    assert "and 5 more, on the page" in result.output
    page = (tmp_path / "shop-models.html").read_text()
    assert all(f"v{number:02d}" in page for number in range(35))


def test_promotions_of_the_history_reach_the_page(
    dropforge: Dropforge, world: World, tmp_path: Path
) -> None:
    give(world, "v1", 1)
    for revision, action in enumerate(("promote", "canary", "rollback"), start=1):
        move = {"version": "v1", "action": action, "at": float(revision)}
        world.registry.put("shop", f"move#{revision:06d}", move)
    dropforge("compare", "-p", "shop")
    page = (tmp_path / "shop-models.html").read_text()
    assert page[page.index("Over time") :].count('class="mark dash1"') == 2
