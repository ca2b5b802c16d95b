from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from click.testing import Result
from http_stub import Respond, Stub, replies
from rich.console import Console
from typer.testing import CliRunner

from dropforge.backends.registry import FAILED, RUNNING, SUCCEEDED
from dropforge.cli import app
from dropforge.cli.deployment import PARAMETER
from dropforge.cli.watch import STAGES, describe, render, watch
from dropforge.errors import NoDataError
from tests.support.provider import Provider
from tests.support.tickets import tickets_csv
from tests.support.world import PROJECT, World

Dropforge = Callable[..., Result]
MODEL = {"backend": "openai", "base_model": "small", "status": "trained", "spec": "s"}


def give_models(world: World, *versions: str) -> None:
    for at, version in enumerate(versions):
        item = {**MODEL, "version": version, "model_id": f"ft:{version}", "created_at": at}
        world.registry.put("shop", f"model#{version}", item)


def give_evaluation(world: World, version: str, at: float = 1.0, key: str = "e1") -> None:
    rate = {"point": 0.9, "low": 0.8, "high": 1.0}
    world.registry.put(
        "shop",
        f"evaluation#{key}",
        {
            "hash": key,
            "version": version,
            "verdict": "promote",
            "dataset": "d1",
            "at": at,
            "comparisons": {"base": {"win_rate": rate}},
            "fact_recall": {"challenger": 0.75},
        },
    )


# --- drop and status


def test_drop_uploads_the_file_and_tells_where(
    dropforge: Dropforge, world: World, tmp_path: Path
) -> None:
    file = tmp_path / "my tickets [jan].csv"
    file.write_text(tickets_csv(5))
    result = dropforge("drop", str(file), "-p", "shop", "--no-watch")
    assert result.exit_code == 0
    key = "exports/shop/my tickets [jan].csv"
    assert result.output == f"dropped s3://{world.bucket}/{key}\n"
    assert world.store.read(key).decode() == tickets_csv(5)


def test_drop_with_a_configuration_makes_the_project(
    dropforge: Dropforge, world: World, tmp_path: Path
) -> None:
    (tmp_path / "New_Shop.csv").write_text(tickets_csv(5))
    (tmp_path / "project.yaml").write_text(PROJECT)
    config = str(tmp_path / "project.yaml")
    result = dropforge("drop", str(tmp_path / "New_Shop.csv"), "--no-watch", "--config", config)
    assert result.exit_code == 0
    assert world.store.read("projects/new-shop/project.yaml").decode() == PROJECT
    assert "exports/new-shop/New_Shop.csv" in world.listed()


def test_drop_of_nothing_or_with_a_wrong_configuration_uploads_nothing(
    dropforge: Dropforge, world: World, tmp_path: Path
) -> None:
    file, wrong = tmp_path / "t.csv", tmp_path / "project.yaml"
    wrong.write_text("backend: openai\n")
    file.write_text("x")
    assert "There is no file" in dropforge("drop", str(tmp_path / "none.csv")).stderr
    refused = dropforge("drop", str(file), "-c", str(wrong), "-p", "new")
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert "model: Field required" in refused.stderr
    assert not world.listed("exports/")
    assert not world.listed("projects/new/")


def test_drop_watches_the_run_and_ends_with_its_status(
    dropforge: Dropforge, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The event is taken by the drop function, and the run fails, while the command watches."""
    file = tmp_path / "t.csv"
    file.write_text(tickets_csv(5))
    module = importlib.import_module("dropforge.cli.app")
    seen: list[str] = []

    def go_on(console: Console, read: Callable[[], Any]) -> Any:
        state = world.drop(tickets_csv(5), "exports/shop/other.csv")
        world.fail(state, NoDataError("Nothing [in] it."))
        seen.append(str(read()))
        return world.run_item(state)

    monkeypatch.setattr(module, "watch", go_on)
    result = dropforge("drop", str(file))
    assert result.exit_code == 1
    assert "exports/shop/other.csv.error.txt" in result.stdout
    assert seen == ["None"]


def test_status_shows_runs_the_newest_first_with_what_went_wrong(
    dropforge: Dropforge, world: World
) -> None:
    first = world.drop(tickets_csv(5), "exports/shop/first.csv")
    world.fail(first, NoDataError("Nothing [in] it."))
    world.drop(tickets_csv(6), "exports/shop/second.csv")
    lines = dropforge("status").stdout.splitlines()
    assert "second.csv" in lines[1]
    assert "running" in lines[1]
    assert "first.csv" in lines[2]
    assert "NO_DATA: Nothing [in] it." in lines[2]
    one = dropforge("status", "--run", first["run"]["run_id"][:8]).stdout
    assert "second.csv" not in one


def test_status_without_runs_says_how_to_start(dropforge: Dropforge) -> None:
    assert "dropforge drop FILE" in dropforge("status").stdout


def test_status_follows_the_newest_run_to_its_end(dropforge: Dropforge, world: World) -> None:
    state = world.drop(tickets_csv(5))
    world.registry.update("shop", f"run#{state['run']['run_id']}", {"status": SUCCEEDED})
    result = dropforge("status", "--follow")
    assert result.exit_code == 0
    assert "next: dropforge report -p shop" in result.stdout


# --- models, promote, rollback


def test_models_are_listed_with_scores_and_roles(dropforge: Dropforge, world: World) -> None:
    give_models(world, "aaa111", "bbb222")
    give_evaluation(world, "bbb222")
    dropforge("promote", "aaa")
    dropforge("promote", "bbb", "--why", "nicer")
    lines = dropforge("models").stdout.splitlines()
    assert lines[1].split()[0] == "bbb222"
    assert "90% [80%, 100%]" in lines[1]
    assert "75%" in lines[1]
    assert "champion" in lines[1].split()
    assert "previous" in lines[2]
    champion = world.registry.champion("shop") or {}
    assert (champion["version"], champion["why"]) == ("bbb222", "nicer")


def test_project_without_a_model_says_so(dropforge: Dropforge) -> None:
    assert dropforge("models").stdout == "shop has no model yet.\n"


def test_rollback_puts_the_previous_back_and_marks_the_other(
    dropforge: Dropforge, world: World
) -> None:
    give_models(world, "aaa111", "bbb222")
    assert "no previous champion" in dropforge("rollback").stderr
    dropforge("promote", "aaa111")
    dropforge("promote", "bbb222")
    assert "shop: aaa111 answers now" in dropforge("rollback").stdout
    assert (world.registry.model("shop", "bbb222") or {})["standing"] == "rolled back"


@pytest.mark.parametrize("version", ["a", "zzz"])
def test_version_that_is_not_one_is_refused_with_the_known(
    dropforge: Dropforge, world: World, version: str
) -> None:
    give_models(world, "aaa111", "aaa222")
    result = dropforge("promote", version)
    assert result.exit_code == 1
    assert "there are: aaa111, aaa222" in result.stderr
    assert world.registry.champion("shop") is None


# --- which project, which deployment


def test_project_has_to_be_named_among_several(dropforge: Dropforge, world: World) -> None:
    world.put_project(name="bank")
    assert "Give --project: bank, shop" in dropforge("models").stderr
    assert "there are: bank, shop" in dropforge("models", "-p", "other").stderr


def test_missing_deployment_says_how_to_deploy(dropforge: Dropforge) -> None:
    boto3.client("ssm").delete_parameter(Name=PARAMETER)
    result = dropforge("status")
    assert result.exit_code == 1
    assert "`make up` for the local default" in result.stderr


def test_profile_and_region_are_passed_on(
    dropforge: Dropforge, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.setenv(name, "restored after the test")
    result = dropforge("--region", "eu-west-1", "--profile", "missing", "models")
    assert result.exit_code == 1
    assert "missing" in f"{result.stderr}{result.exception}"


# --- token and chat


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stub]:
    stub = Stub()
    monkeypatch.setenv("DROPFORGE_API_URL", stub.url)
    yield stub
    stub.stop()


CHAT = "/v1/chat/completions"


def says(text: str) -> Respond:
    body = {"choices": [{"message": {"content": text}}]}
    return replies(200, body, x_dropforge_model="shop/aaa111", x_dropforge_arm="champion")


def test_chat_prints_the_answer_as_it_is_and_who_gave_it(dropforge: Dropforge, api: Stub) -> None:
    api.routes[CHAT] = says("Take [bold]part[/bold] [/x] LX-40")
    result = dropforge("chat", "Which part?", "--token", "df-1")
    assert result.exit_code == 0
    first, second = result.stdout.splitlines()
    assert first == "Take [bold]part[/bold] [/x] LX-40"
    assert second.startswith("shop/aaa111 (champion), ")
    (seen,) = api.seen
    assert seen.headers["authorization"] == "Bearer df-1"
    assert seen.json()["model"] == "shop/champion"


def test_chat_without_a_token_says_how_to_make_one(dropforge: Dropforge) -> None:
    assert "dropforge tokens create PROJECT" in dropforge("chat", "Why?").stderr


@pytest.mark.parametrize(
    ("respond", "said"),
    [
        (
            replies(429, {"error": {"message": "Slow down [now]."}}),
            "answered 429: Slow down [now].",
        ),
        (replies(401, {"message": "Unauthorized"}), "answered 401: Unauthorized"),
        (replies(502, b"<html>"), "answered 502: Bad Gateway"),
    ],
)
def test_chat_tells_the_apis_own_words(
    dropforge: Dropforge, api: Stub, respond: Respond, said: str
) -> None:
    api.routes[CHAT] = respond
    result = dropforge("chat", "Why?", "--token", "df-1")
    assert result.exit_code == 1
    assert said in result.stderr


def test_chat_with_an_api_out_of_reach_says_so(
    dropforge: Dropforge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DROPFORGE_API_URL", "http://127.0.0.1:9/prod")
    result = dropforge("chat", "Why?", "--token", "df-1")
    assert "http://127.0.0.1:9/prod cannot be reached" in result.stderr


# --- lineage and report


def test_lineage_goes_from_an_answer_to_the_file_and_back(
    dropforge: Dropforge, world: World, provider: Provider
) -> None:
    state = world.run(world.drop(tickets_csv(240), "exports/shop/[a] b.csv"), until="launch")
    provider.finish()
    world.run(state, until="verdict")
    version = state["poll"]["model"]["version"]
    back = dropforge("lineage", f"shop/{version}").stdout
    for step in (
        f"model shop/{version}  ft:tuned",
        "job ftjob-1",
        f"dataset validate/shop/{state['dataset']['hash']}/",
        f"clean/shop/{state['clean']['hash']}/  240 of 240 rows",
        f"s3://{world.bucket}/exports/shop/[a] b.csv",
        f"version {state['run']['version_id']}, sha256 ",
    ):
        assert step in back
    forth = dropforge("lineage", "exports/shop/[a] b.csv").stdout
    assert f"model shop/{version}" in forth


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("shop/zzz", "names 0 versions"),
        ("exports/shop/none.csv", "No run has cleaned"),
        ("exports/none", "is no export's key"),
        ("other/v1", "There is no project"),
    ],
)
def test_lineage_of_something_unknown_says_so(dropforge: Dropforge, what: str, said: str) -> None:
    result = dropforge("lineage", what)
    assert result.exit_code == 1
    assert said in result.stderr


def test_report_is_fetched_for_the_newest_or_a_named_version(
    dropforge: Dropforge, world: World, tmp_path: Path
) -> None:
    give_models(world, "aaa111", "bbb222")
    give_evaluation(world, "aaa111", at=1, key="e1")
    give_evaluation(world, "bbb222", at=2, key="e2")
    for place, run in enumerate(("d0", "d1")):
        item = {"run_id": run, "updated_at": place, "validate": {"hash": run}}
        world.registry.put("shop", f"run#{run}", item)
    for key in ("judge/shop/e1", "judge/shop/e2", "validate/shop/d1"):
        world.store.write(f"{key}/report.html", key)
    out = tmp_path / "page.html"
    for options, page in (
        ([], "judge/shop/e2"),
        (["--version", "aaa"], "judge/shop/e1"),
        (["--data"], "validate/shop/d1"),
        (["--data", "--version", "aaa"], "validate/shop/d1"),
    ):
        assert dropforge("report", "--out", str(out), *options).exit_code == 0
        assert out.read_text() == page


def test_report_before_any_evaluation_says_how_far_the_run_is(dropforge: Dropforge) -> None:
    assert "dropforge status -p shop" in dropforge("report").stderr


# --- watching


RUN: dict[str, Any] = {
    "status": RUNNING,
    "stage": "judge",
    "key": "exports/shop/[a].csv",
    "clean": {"read": 10, "kept": 8, "rejected": {"duplicate": 2}},
    "validate": {"examples": {"train": 6, "validation": 1, "test": 1}, "warnings": ["few"]},
    "train": {"model": "small", "backend": "openai", "version": "v1"},
    "progress": {"step": 3, "steps": 9, "train_loss": 1.25, "eval_loss": 1.5, "note": "running"},
    "judge": {"samples": 15},
    "judged": {"batch0": 10, "batch1": 10},
}


def test_every_stage_is_described_once_there_is_something_to_tell() -> None:
    assert [describe({}, stage) for stage in STAGES] == [""] * len(STAGES)
    assert [describe(RUN, stage) for stage in STAGES] == [
        "exports/shop/[a].csv",
        "8 of 10 rows kept (2 duplicate)",
        "6 train, 1 validation, 1 test; few",
        "small on openai, step 3/9, loss 1.25, validation 1.50",
        "15/15 test tickets",
        "",
    ]


@pytest.mark.parametrize(
    ("more", "stage", "line"),
    [
        ({"status": "repeated", "repeats": "r1"}, "drop", "same content as run r1: nothing to do"),
        ({"promoted": True}, "promote", "v1 is the champion now"),
        ({"promoted": False}, "promote", "the champion stays as it was"),
        ({"progress": {"train_loss": None, "note": "queued"}}, "train", "small on openai"),
        (
            {"verdict": {"verdict": "reject", "reasons": ["a", "b"]}},
            "judge",
            "15/15 test tickets: reject (a; b)",
        ),
    ],
)
def test_end_of_a_stage_is_described(more: dict[str, Any], stage: str, line: str) -> None:
    assert describe({**RUN, **more}, stage) == line


@pytest.mark.parametrize(
    ("status", "marks"),
    [(RUNNING, "✓✓✓✓…·"), (SUCCEEDED, "✓✓✓✓✓·"), (FAILED, "✓✓✓✓✗·")],
)
def test_run_is_drawn_with_a_mark_for_each_stage(status: str, marks: str) -> None:
    console = Console(width=100)
    with console.capture() as captured:
        console.print(render({**RUN, "status": status, "error": "NO_DATA: [x]"}))
    drawn = re.sub("[\u2800-\u28ff]", "…", captured.get())
    assert "".join(line[0] for line in drawn.splitlines() if line[0] in "✓✗…·") == marks
    assert ("NO_DATA: [x]" in drawn) == (status == FAILED)


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize("note", ["running", "openai does not answer"])
def test_training_shows_whole_step_and_losses_on_any_terminal(width: int, note: str) -> None:
    progress = {"step": 190, "steps": 190, "train_loss": 0.151, "eval_loss": 0.163, "note": note}
    train = {"model": "smollm2-135m-instruct", "backend": "openai", "version": "v1"}
    run = {**RUN, "stage": "train", "train": train, "progress": progress}
    run = {name: value for name, value in run.items() if name != "judge"}
    console = Console(width=width)
    with console.capture() as captured:
        console.print(render(run))
    lines = captured.get().splitlines()
    assert any("step 190/190, loss 0.15, validation 0.16" in line for line in lines)
    assert note in " ".join(" ".join(lines).split())
    assert max(map(len, lines)) <= width


def test_judging_shows_its_count_beside_no_bar() -> None:
    console = Console(width=60)
    with console.capture() as captured:
        console.print(render(RUN))
    assert "15/15 test tickets" in map(str.strip, captured.get().splitlines())


def test_watching_prints_each_new_line_once_and_ends_with_the_run() -> None:
    runs = iter(
        [None, RUN, RUN, {**RUN, "status": SUCCEEDED, "stage": "promote", "promoted": True}]
    )
    console = Console(width=200, force_terminal=False, markup=False)
    with console.capture() as captured:
        end = watch(console, lambda: next(runs), interval=0)
    lines = captured.get().splitlines()
    assert len(lines) == len(set(lines)) == len(STAGES)
    assert end is not None
    assert end["status"] == SUCCEEDED


def test_watching_on_a_terminal_draws_until_the_end() -> None:
    runs = iter([None, RUN, {**RUN, "status": FAILED, "error": "NO_DATA: [x]"}])
    console = Console(width=100, force_terminal=True)
    with console.capture() as captured:
        end = watch(console, lambda: next(runs), interval=0)
    assert "NO_DATA: [x]" in captured.get()
    assert end is not None


@pytest.mark.parametrize("terminal", [True, False])
def test_watching_gives_up_on_a_run_that_never_begins(terminal: bool) -> None:
    console = Console(width=100, force_terminal=terminal)
    with console.capture():
        assert watch(console, lambda: None, interval=0, patience=0) is None


def test_help_names_every_command() -> None:
    said = CliRunner().invoke(app, ["--help"]).stdout
    for command in ("drop", "status", "models", "chat", "tokens", "promote", "rollback", "lineage"):
        assert command in said


def test_outputs_may_name_more_than_is_known(dropforge: Dropforge, world: World) -> None:
    value = json.loads(boto3.client("ssm").get_parameter(Name=PARAMETER)["Parameter"]["Value"])
    boto3.client("ssm").put_parameter(
        Name=PARAMETER, Value=json.dumps({**value, "new": 1}), Type="String", Overwrite=True
    )
    assert dropforge("models").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["status"], "You must specify a region"), (["--profile", "nope", "models"], "nope")],
)
def test_command_without_aws_settings_says_what_to_give(arguments: list[str], said: str) -> None:
    environment = {"PATH": os.environ["PATH"], "AWS_CONFIG_FILE": os.devnull}
    ended = subprocess.run(
        [Path(sys.executable).with_name("dropforge"), *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 1
    assert said in ended.stderr
    assert "source .local/env" in ended.stderr
    assert "Traceback" not in ended.stderr
