"""`dropforge migrate`, against a real API on the loopback interface and moto's AWS."""

from __future__ import annotations

import importlib
import io
from collections.abc import Callable, Iterator
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from http_stub import Stub, StubHandler, replies
from rich.console import Console
from typer.testing import CliRunner

from dropforge.artifacts import batch_name, evaluation_key, recorded_key
from dropforge.backends import pointers
from dropforge.backends.registry import FAILED
from dropforge.cli import app, record
from dropforge.cli.watch import describe
from dropforge.errors import TrainingFailedError
from dropforge.recorded import RecordedAnswers, decode_recorded
from lambdas.watch import handler as watch_handler
from tests.support.moves import ANSWERS, JUDGING, NEW, TWO, moved, promoted, set_clock
from tests.support.provider import Provider
from tests.support.world import World

Dropforge = Callable[..., Result]
CHAT = "/v1/chat/completions"
TODAY = date(2026, 11, 22)
ALONE = "backend: openai\nmodel: gpt-4.1-mini\n" + JUDGING


@pytest.fixture(autouse=True)
def _clock(monkeypatch: pytest.MonkeyPatch) -> None:
    set_clock(monkeypatch, TODAY)


@pytest.fixture
def dropforge(dropforge: Dropforge) -> Dropforge:
    return partial(dropforge, "migrate")


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stub]:
    stub = Stub()
    stub.routes[CHAT] = knows
    monkeypatch.setenv("DROPFORGE_API_URL", stub.url)
    monkeypatch.setattr(record, "WAIT_S", 0.01)
    yield stub
    stub.stop()


def knows(handler: StubHandler) -> None:
    question = handler.request_seen.json()["messages"][-1]["content"]
    answer = {"choices": [{"message": {"content": ANSWERS[question]}}]}
    handler.reply(200, answer)


def version_of(state: dict[str, Any]) -> str:
    return str(state["poll"]["model"]["version"])


def recorded_of(world: World, state: dict[str, Any]) -> RecordedAnswers:
    key = recorded_key("shop", version_of(state), state["dataset"]["hash"])
    return decode_recorded(world.store.read(key))


def forget_judged(world: World, state: dict[str, Any], *batches: int) -> None:
    for index in batches:
        world.store.delete(evaluation_key("shop", state["plan"]["hash"], batch_name(index)))


# --- inventory


def test_help_tells_the_order_of_the_commands(dropforge: Dropforge) -> None:
    said = dropforge("--help").stdout
    places = [said.index(f"`{name}`") for name in ("inventory", "record", "start", "report")]
    assert places == sorted(places)


def test_nothing_depends_on_a_provider_where_there_is_no_hosted_model(
    dropforge: Dropforge, world: World
) -> None:
    model = {"version": "v1", "backend": "sagemaker", "status": "trained", "model_id": "c"}
    world.registry.put("shop", "model#v1", model)
    assert dropforge().stdout.startswith("No model depends on a hosted provider")


@pytest.mark.parametrize("arguments", [(), ("inventory",), ("-p", "shop")])
def test_inventory_tells_when_what_ends_and_where_it_would_go(
    dropforge: Dropforge, world: World, provider: Provider, arguments: tuple[str, ...]
) -> None:
    state = promoted(world, provider)
    lines = dropforge(*arguments).stdout.splitlines()
    row = lines[1].split()
    assert row[:3] == ["shop", version_of(state), "champion"]
    assert "gpt-4.1-mini on openai" in lines[1]
    assert "2027-01-14  53" in lines[1]
    assert "OpenAI's deprecations page" in lines[1]
    assert lines[1].rstrip().endswith("small on local")
    rest = "\n".join(lines[2:])
    assert "shop: the daily watch has not looked yet" in rest
    assert "openai takes no more jobs for gpt-4.1-mini from 2027-01-06 on (in 45 days)" in rest
    assert "`dropforge migrate record -p shop` while it answers" in rest


def test_inventory_shows_what_the_watch_recorded(
    dropforge: Dropforge, world: World, provider: Provider
) -> None:
    promoted(world, provider)
    provider.models = {"ft:old": {"shutdown_date": "2026-11-25"}}
    watch_handler.handler({"time": "2026-11-22T03:00:00Z"}, None)
    said = dropforge().stdout
    assert "2026-11-25  3 " in said
    assert "openai lists it for ft:old" in said
    assert "shop: the watch last looked on 2026-11-22" in said


def test_dark_model_with_nowhere_to_go_says_what_to_add(
    dropforge: Dropforge, world: World, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    promoted(world, provider, ALONE)
    set_clock(monkeypatch, date(2027, 2, 1))
    said = dropforge().stdout
    assert "2027-01-14  dark" in said
    assert "(already)" in said
    assert "shop: there is nowhere to go. Add to project.yaml" in said
    assert f"s3://{world.bucket}/projects/shop/project.yaml" in said


# --- record


def test_answers_are_taken_from_the_evaluation_and_the_rest_is_asked_for(
    dropforge: Dropforge, world: World, provider: Provider, api: Stub
) -> None:
    state = promoted(world, provider)
    forget_judged(world, state, 1)
    result = dropforge("record", "-p", "shop")
    assert result.exit_code == 0, result.output
    kept = recorded_of(world, state)
    asked = len(kept.answers) - 20
    assert f"0 recorded before, 20 taken from its evaluation, {asked} asked now" in result.stdout
    assert len(api.seen) == asked
    assert set(kept.answers.values()) <= set(ANSWERS.values())
    assert kept.recording.recorded == "2026-11-22"
    request = api.seen[0].json()
    assert request["model"] == f"shop/{version_of(state)}"
    assert (request["temperature"], request["max_tokens"]) == (0, 300)
    assert request["messages"][0]["role"] == "system"
    again = dropforge("record")
    assert f"{len(kept.answers)} recorded before, 0 taken" in again.stdout
    assert len(api.seen) == asked


def test_token_made_for_the_recording_is_revoked_and_a_given_one_is_used(
    dropforge: Dropforge, world: World, provider: Provider, api: Stub
) -> None:
    state = promoted(world, provider)
    forget_judged(world, state, 0, 1, 2)
    dropforge("record")
    (token,) = {request.headers["authorization"].split()[1] for request in api.seen}
    table = importlib.import_module("boto3").resource("dynamodb").Table(world.table)
    items = table.scan()["Items"]
    tokens = [item for item in items if item["pk"] == "tokens"]
    assert [(one["name"], one["state"]) for one in tokens] == [("migrate record", "revoked")]
    assert not [item for item in items if item["pk"].startswith("token#")]
    assert token.startswith("df-")
    world.store.delete(recorded_key("shop", version_of(state), state["dataset"]["hash"]))
    api.seen.clear()
    dropforge("record", "--token", "df-mine")
    assert {request.headers["authorization"] for request in api.seen} == {"Bearer df-mine"}


def test_busy_api_is_asked_again_and_what_it_refuses_for_good_is_told(
    dropforge: Dropforge, world: World, provider: Provider, api: Stub
) -> None:
    state = promoted(world, provider)
    forget_judged(world, state, 0, 1, 2)
    tries: dict[str, int] = {}

    def busy(handler: StubHandler) -> None:
        question = handler.request_seen.json()["messages"][-1]["content"]
        tries[question] = tries.get(question, 0) + 1
        if tries[question] == 1:
            handler.reply(429, {"error": {"message": "slow", "code": "x"}}, Retry_After="0")
        elif tries[question] == 2:
            handler.reply(503, {})
        else:
            knows(handler)

    api.routes[CHAT] = busy
    assert dropforge("record", "--parallel", "8").exit_code == 0
    assert set(tries.values()) == {3}
    assert len(recorded_of(world, state).answers) == len(tries)


def test_recording_that_was_cut_off_goes_on_where_it_stood(
    dropforge: Dropforge, world: World, provider: Provider, api: Stub
) -> None:
    state = promoted(world, provider)
    forget_judged(world, state, 0, 1, 2)
    gone = replies(404, {"error": {"message": "no such model", "code": "model_not_found"}})
    api.routes[CHAT] = lambda handler: knows(handler) if len(api.seen) <= 12 else gone(handler)
    first = dropforge("record", "--parallel", "1")
    assert first.exit_code == 1
    assert "answered 404: no such model" in first.stderr
    assert "run the same command again" in first.stderr
    assert len(recorded_of(world, state).answers) == 12
    assert len(api.seen) < 20, "nobody else is asked once the model is gone"
    api.routes[CHAT] = knows
    api.seen.clear()
    second = dropforge("record")
    assert "12 recorded before" in second.stdout
    assert len(api.seen) == len(recorded_of(world, state).answers) - 12


def test_answer_that_the_provider_held_back_is_empty_as_for_the_judge(
    dropforge: Dropforge, world: World, provider: Provider, api: Stub
) -> None:
    state = promoted(world, provider)
    forget_judged(world, state, 0, 1, 2)
    api.routes[CHAT] = replies(400, {"error": {"message": "no", "code": "content_filter"}})
    assert dropforge("record").exit_code == 0
    assert set(recorded_of(world, state).answers.values()) == {""}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("record", "--dataset", "nope"), "Name another dataset with --dataset."),
        (("record", "--version", "zzz"), "there are: "),
    ],
)
def test_record_of_something_unknown_says_what_to_name(
    dropforge: Dropforge, world: World, provider: Provider, arguments: tuple[str, ...], said: str
) -> None:
    promoted(world, provider)
    assert said in dropforge(*arguments).stderr


# --- start


@pytest.mark.parametrize("command", ["record", "start", "report"])
def test_project_without_a_champion_is_told_what_to_do(
    dropforge: Dropforge, world: World, command: str
) -> None:
    result = dropforge(command, "-p", "shop")
    assert result.exit_code == 1
    assert "`dropforge " in result.stderr


def test_start_begins_a_run_on_the_champions_dataset_and_only_one(
    dropforge: Dropforge, world: World, provider: Provider
) -> None:
    first = promoted(world, provider)
    result = dropforge("start", "--no-watch")
    assert result.exit_code == 0, result.output
    assert "trained anew as small on local" in result.stdout
    assert "stays the champion until the judge has decided" in result.stdout
    state = world.executions()[-1]
    assert (state["dataset"], state["fallback"]) == (first["dataset"], {"choice": 1})
    assert "is doing this already" in dropforge("start", "--no-watch").stdout
    assert len(world.executions()) == 2


def test_start_follows_the_run_and_names_the_report(
    dropforge: Dropforge, world: World, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    promoted(world, provider)
    module = importlib.import_module("dropforge.cli.app")

    def go_on(console: Console, read: Callable[[], Any]) -> Any:
        moved(world, provider, world.executions()[-1])
        return read()

    monkeypatch.setattr(module, "watch", go_on)
    said = dropforge("start").stdout
    assert "then: dropforge migrate report -p shop" in said
    assert (world.registry.champion("shop") or {})["model_id"] == NEW


def test_failed_move_can_be_started_again_at_once(
    dropforge: Dropforge, world: World, provider: Provider
) -> None:
    promoted(world, provider)
    dropforge("start", "--no-watch")
    state = world.executions()[-1]
    world.fail(state, TrainingFailedError("No luck."))
    assert world.run_item(state)["status"] == FAILED
    assert "started run" in dropforge("start", "--no-watch").stdout
    assert len(world.executions()) == 3


@pytest.mark.parametrize(
    ("project", "arguments", "said"),
    [
        (ALONE, (), "lists no other backend that still trains"),
        (TWO, ("--to", "together"), "lists no other model on `together`"),
        (TWO, ("--to", "openai"), "lists no other model on `openai`"),
    ],
)
def test_start_without_a_choice_says_which_lines_to_add(
    dropforge: Dropforge,
    world: World,
    provider: Provider,
    project: str,
    arguments: tuple[str, ...],
    said: str,
) -> None:
    promoted(world, provider, project)
    result = dropforge("start", "--no-watch", *arguments)
    assert result.exit_code == 1
    assert said in result.stderr
    assert "      - {backend: sagemaker, model: llama-3-8b-instruct}\n" in result.stderr
    assert "Nothing was changed." in result.stderr
    assert len(world.executions()) == 1


def test_named_backend_is_taken_though_it_is_not_the_next(
    dropforge: Dropforge, world: World, provider: Provider
) -> None:
    three = TWO.replace("small}]", "small}, {backend: together, model: big}]")
    promoted(world, provider, three)
    assert dropforge("start", "--no-watch", "--to", "together").exit_code == 0
    assert world.executions()[-1]["fallback"] == {"choice": 2}


def test_named_backend_that_takes_no_more_jobs_is_refused(
    dropforge: Dropforge, world: World, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    turned = "backend: local\nmodel: small\nfallback: [{backend: openai, model: gpt-9}]\n"
    promoted(world, provider, turned + JUDGING)
    set_clock(monkeypatch, date(2027, 1, 6))
    result = dropforge("start", "--no-watch", "--to", "openai")
    assert "gpt-9 on openai takes no job since 2027-01-06" in result.stderr
    assert len(world.executions()) == 1


def test_move_that_would_cost_more_than_the_budget_is_refused(
    dropforge: Dropforge, world: World, provider: Provider
) -> None:
    promoted(world, provider)
    world.put_project(TWO + "budget: {training_usd: 0, usd_per_million_tokens: 5}\n")
    result = dropforge("start", "--no-watch")
    assert "budget" in f"{result.stderr}{result.exception}"
    assert len(world.executions()) == 1


def test_recorded_answers_have_to_be_there_where_they_are_asked_for(
    dropforge: Dropforge, world: World, provider: Provider
) -> None:
    promoted(world, provider)
    refused = dropforge("start", "--no-watch", "--recorded")
    assert "Run `dropforge migrate record -p shop` first" in refused.stderr
    assert dropforge("record").exit_code == 0
    assert (
        "judged against the recorded answers"
        in dropforge("start", "--recorded", "--no-watch").stdout
    )
    assert world.executions()[-1]["recorded"] is True


def test_move_of_a_dark_champion_says_that_it_cannot_be_compared(
    dropforge: Dropforge, world: World, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    promoted(world, provider)
    set_clock(monkeypatch, date(2027, 2, 1))
    assert "judged against its own base alone" in dropforge("start", "--no-watch").stdout


def test_project_may_stand_before_the_command_and_status_tells_why_the_run_is(
    dropforge: Dropforge, world: World, provider: Provider
) -> None:
    promoted(world, provider)
    world.put_project(name="bank")
    assert "Give --project: bank, shop" in dropforge("start", "--no-watch").stderr
    assert dropforge("-p", "shop", "start", "--no-watch").exit_code == 0
    run = world.run_item(world.executions()[-1])
    assert describe(run, "drop").startswith(f"{run['migrates']} trained anew as small on local")
    assert describe(run, "validate").startswith("189 train, 23 validation, 28 test")


def test_lineage_tells_from_where_a_model_was_moved(
    dropforge: Dropforge, world: World, provider: Provider
) -> None:
    first = promoted(world, provider)
    dropforge("start", "--no-watch")
    state = moved(world, provider, world.executions()[-1])
    back = CliRunner().invoke(app, ["lineage", f"shop/{version_of(state)}"]).stdout
    assert f"moved from shop/{version_of(first)}: " in back
    assert "exports/shop/tickets.csv" in back


def test_progress_is_drawn_on_a_terminal_and_gone_at_the_end(
    dropforge: Dropforge, world: World, provider: Provider, api: Stub
) -> None:
    state = promoted(world, provider)
    forget_judged(world, state, 0, 1)
    module = importlib.import_module("dropforge.cli.app")
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=100, markup=False)
    setattr(module, "console", console)  # noqa: B010  (the fixture puts the former one back)
    assert dropforge("record").exit_code == 0
    drawn = file.getvalue()
    assert "asking" in drawn
    count = len(recorded_of(world, state).answers)
    assert f"{count}/{count}" in drawn
    assert drawn.rstrip().endswith(".jsonl")


# --- report


def test_report_tells_that_the_new_model_answers_and_shows_both(
    dropforge: Dropforge, world: World, provider: Provider, tmp_path: Path
) -> None:
    first = promoted(world, provider)
    dropforge("record")
    dropforge("start", "--no-watch", "--recorded")
    state = moved(world, provider, world.executions()[-1])
    out = tmp_path / "page.html"
    said = dropforge("report", "--out", str(out)).stdout
    old, new = version_of(first), version_of(state)
    assert said.splitlines()[0] == f"switched: {new} answers in place of {old}"
    assert "with 53 days left" in said
    assert "judged new against old: wins 50%" in said
    assert "recorded on 2026-11-22" in said
    page = out.read_text()
    for word in (
        f"switched: {new} answers in place of {old}",
        "shop: from openai to local",
        "old, recorded on 2026-11-22",
        "neither is better: ",
        "<td>gpt-4.1-mini</td><td>small</td>",
        "<td>openai</td><td>local</td>",
    ):
        assert word in page


def test_report_of_a_run_under_way_or_failed_says_why_not_yet(
    dropforge: Dropforge, world: World, provider: Provider, tmp_path: Path
) -> None:
    promoted(world, provider)
    dropforge("start", "--no-watch")
    out = ("report", "--out", str(tmp_path / "page.html"))
    assert dropforge(*out).stdout.startswith("not yet: the run is still at train")
    world.fail(world.executions()[-1], TrainingFailedError("No <luck>."))
    assert "not yet: the run failed at train. TRAINING_FAILED: No <luck>." in dropforge(*out).stdout
    assert "No &lt;luck&gt;." in (tmp_path / "page.html").read_text()


def test_model_that_was_taken_out_of_service_is_ready_to_switch_to(
    dropforge: Dropforge, world: World, provider: Provider, tmp_path: Path
) -> None:
    first = promoted(world, provider)
    dropforge("start", "--no-watch")
    state = moved(world, provider, world.executions()[-1])
    old = world.registry.get("shop", f"model#{version_of(first)}") or {}
    pointers.promote(world.registry, "shop", old, who="me", why="careful", at=2.0)
    said = dropforge("report", "--out", str(tmp_path / "p.html")).stdout
    assert f"ready to switch: `dropforge promote {version_of(state)} -p shop`" in said


def test_worse_model_is_not_switched_to_and_the_reasons_are_told(
    dropforge: Dropforge, world: World, provider: Provider, tmp_path: Path
) -> None:
    promoted(world, provider)
    chat = provider.chat
    provider.chat = lambda m, messages: "No idea." if m == NEW else chat(m, messages)
    dropforge("start", "--no-watch")
    moved(world, provider, world.executions()[-1])
    said = dropforge("report", "--out", str(tmp_path / "p.html")).stdout
    assert said.startswith("not yet: reject: win rate against the base")
    assert "the old one is better: " in (tmp_path / "p.html").read_text()
