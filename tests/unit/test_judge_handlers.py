"""The judge's functions: looks, an early stop, answers asked for once, golden questions, panels."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from dropforge.artifacts import Verdict, evaluation_key
from dropforge.backends import pointers
from dropforge.errors import RetryableError
from dropforge.judge import Question
from dropforge.project import ProjectConfig
from dropforge.project.judging import MAX_THREADS, Judging
from dropforge.providers import Access
from dropforge.settings import JudgeSettings
from lambdas.judge import batch, plan
from lambdas.judge.asking import Kept, Pace, Panel, answers, at_once, threads
from tests.support.beginnings import once
from tests.support.moves import forget
from tests.support.provider import Messages, Provider
from tests.support.provider import answers as refusing
from tests.support.tickets import ticket, tickets_csv
from tests.support.world import World

ENOUGH = 700
RIGHT = {ticket(i)[0]: ticket(i)[1] for i in range(ENOUGH)}
HEAD = "backend: openai\nmodel: small\n"
LOOKS = HEAD + "judge: {model: judge, samples: 80, look: 30, batch: 10, concurrency: 8}\n"


def judge(messages: Messages) -> str:
    """A fair judge: the answer that names a part wins."""
    text = messages[1]["content"]
    a, b = text.split("<answer_a")[1].split("<answer_b")
    winner = {(True, False): "A", (False, True): "B"}.get(("part" in a, "part" in b), "tie")
    return json.dumps({"winner": winner, "confidence": 0.9})


def answering(provider: Provider, tuned: Callable[[str], str]) -> None:
    def chat(model: str, messages: Messages) -> str:
        if model.startswith("judge"):
            return judge(messages)
        return tuned(messages[-1]["content"]) if model == "ft:tuned" else "I do not know."

    provider.chat = chat


def trained(world: World, provider: Provider, project: str) -> dict[str, Any]:
    def made() -> dict[str, Any]:
        world.put_project(project)
        state = world.run(world.drop(tickets_csv(ENOUGH)), until="launch")
        provider.finish()
        return world.run(state, until="plan")

    return once(world, provider, f"trained {project}", made)


def verdict(world: World, state: dict[str, Any]) -> Verdict:
    return world.store.load(evaluation_key("shop", state["plan"]["hash"]), Verdict)


def test_clear_evidence_ends_judging_after_a_look(world: World, provider: Provider) -> None:
    answering(provider, lambda question: RIGHT[question])
    state = trained(world, provider, LOOKS)
    assert state["plan"]["samples"] > 60
    assert (state["plan"]["batches"], state["plan"]["more"]) == ([0, 1, 2], True)
    state = world.run(state, until="verdict")
    assert (state["plan"]["judged"], state["plan"]["more"]) == (3, False)
    evaluation = verdict(world, state).evaluation
    assert (evaluation.samples, evaluation.planned) == (30, state["plan"]["samples"])
    assert evaluation.stopped_early
    assert world.run_item(state)["judge"]["clear"] == "above"
    assert state["evaluation"]["verdict"] == "promote"


def test_worse_model_is_given_up_early_too(world: World, provider: Provider) -> None:
    answering(provider, lambda question: "No idea.")
    right = provider.chat
    provider.chat = lambda model, messages: (
        RIGHT[messages[-1]["content"]] if model == "small" else right(model, messages)
    )
    state = world.run(trained(world, provider, LOOKS), until="verdict")
    assert verdict(world, state).evaluation.samples == 30
    assert state["evaluation"]["verdict"] == "reject"


def test_open_evidence_asks_for_all_tickets(world: World, provider: Provider) -> None:
    answering(provider, lambda q: RIGHT[q] if len(q) % 5 else "I do not know.")
    state = world.run(trained(world, provider, LOOKS + "gate: {lower_bound: 0.88}\n"))
    evaluation = verdict(world, state).evaluation
    assert evaluation.samples == evaluation.planned
    assert state["evaluation"]["verdict"] == "not enough evidence"


def test_without_early_stop_all_tickets_are_one_look(world: World, provider: Provider) -> None:
    answering(provider, lambda question: RIGHT[question])
    state = trained(world, provider, LOOKS.replace("look: 30", "look: 30, early_stop: false"))
    assert len(state["plan"]["batches"]) == -(-state["plan"]["samples"] // 10)
    state = world.run(state, until="verdict")
    assert verdict(world, state).evaluation.samples == state["plan"]["samples"]


def test_answers_are_asked_for_once_whatever_is_judged_again(
    world: World, provider: Provider
) -> None:
    answering(provider, lambda question: RIGHT[question])
    state = world.run(trained(world, provider, LOOKS), until="judge")
    asked = [chat for chat in provider.chats if chat["model"] != "judge"]
    assert len(asked) == 2 * 30
    for key in world.listed(f"judge/shop/{state['plan']['hash']}/"):
        world.store.delete(key)
    again = {**state, "model": state["poll"]["model"]}
    for index in range(3):
        batch.handler({**again, "batch": index}, None)
    assert [chat for chat in provider.chats if chat["model"] != "judge"] == asked


def test_what_answers_and_judging_took_is_kept(world: World, provider: Provider) -> None:
    answering(provider, lambda question: RIGHT[question])
    provider_chat = provider.chat
    provider.chat = lambda model, messages: {
        "choices": [{"index": 0, "message": {"content": provider_chat(model, messages)}}],
        "usage": {"prompt_tokens": 30, "completion_tokens": 7, "total_tokens": 37},
    }
    state = world.run(trained(world, provider, LOOKS), until="verdict")
    used = verdict(world, state).evaluation.usage
    assert (used["challenger"].answers, used["challenger"].completion_tokens) == (30, 210)
    assert (used["judge"].prompt_tokens, used["judge"].completion_tokens) == (60 * 30, 60 * 7)
    assert used["base"].seconds_p95 >= used["base"].seconds_p50 > 0


def test_panel_of_two_asks_both_and_keeps_their_opinions(world: World, provider: Provider) -> None:
    answering(provider, lambda question: RIGHT[question])
    two = LOOKS.replace("judge: {model: judge", "judge: {panel: [{model: judge-2}], model: judge")
    state = world.run(trained(world, provider, two), until="verdict")
    models = [chat["model"] for chat in provider.chats]
    assert models.count("judge") == models.count("judge-2") == 60
    evaluation = verdict(world, state).evaluation
    assert len(evaluation.judges) == 2
    assert set(evaluation.comparisons["base"].by_judge) == set(evaluation.judges)


GOLDEN = "".join(
    json.dumps({"id": name, "question": question, "reference": reference, "must": must}) + "\n"
    for name, question, reference, must in (
        ("returns", "How long can I return it?", "30 days.", ["30 days"]),
        ("shipping", "What does shipping cost?", "It costs €5.", ["€5"]),
    )
)


@pytest.mark.parametrize(
    ("said", "decided", "worse"), [("30 days, €5", "promote", ()), ("€5", "reject", ("returns",))]
)
def test_golden_question_that_the_base_gets_right_must_not_get_worse(
    world: World, provider: Provider, said: str, decided: str, worse: tuple[str, ...]
) -> None:
    answering(provider, lambda question: RIGHT.get(question, said))
    inner = provider.chat
    provider.chat = lambda model, messages: (
        "30 days" if "return" in messages[-1]["content"] and model == "small"
        else inner(model, messages)
    )  # fmt: skip
    world.put_project(LOOKS)
    world.take(world.put("projects/shop/golden.jsonl", GOLDEN))
    state = world.run(trained(world, provider, LOOKS), until="verdict")
    assert state["plan"]["golden"]
    found = verdict(world, state)
    assert found.evaluation.golden is not None
    assert found.evaluation.golden.worse == worse
    assert found.evaluation.golden.right["base"] == 1
    assert found.decision.verdict == decided
    assert not worse or "golden questions" in found.decision.reasons[0]


def test_judge_below_the_agreed_floor_promotes_nothing(world: World, provider: Provider) -> None:
    answering(provider, lambda question: RIGHT[question])
    state = world.run(trained(world, provider, LOOKS + "gate: {agreement: 0.6}\n"))
    assert state["evaluation"]["verdict"] == "not enough evidence"
    assert "dropforge label" in verdict(world, state).decision.reasons[0]
    assert world.registry.champion("shop") is None


def test_base_that_holds_the_place_is_no_second_opponent(world: World, provider: Provider) -> None:
    answering(provider, lambda question: RIGHT[question])
    world.put_project(LOOKS)
    held = {"version": "base", "backend": "openai", "model_id": "small", "revision": 1}
    world.registry.put("shop", "champion", {**held, "previous": None})
    assert trained(world, provider, LOOKS)["plan"]["champion"] is None


# --- asking


def test_pace_spreads_calls_evenly_over_threads() -> None:
    slept: list[float] = []
    now = [100.0]
    pace = Pace(120, clock=lambda: now[0], sleep=slept.append)
    for _ in range(3):
        pace.wait()
    assert slept == pytest.approx([0.5, 1.0])
    now[0] = 200.0
    pace.wait()
    assert len(slept) == 2, "time that has passed unused is not saved up, and not waited for"


def test_without_a_pace_nobody_waits() -> None:
    Pace(None, sleep=lambda seconds: pytest.fail("waited")).wait()


def test_at_once_keeps_order_and_stays_within_its_bound() -> None:
    running, most, lock = [0], [0], threading.Lock()

    def one(n: int) -> int:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        time.sleep(0.002)
        with lock:
            running[0] -= 1
        return n * n

    assert at_once(one, range(40), 4) == [n * n for n in range(40)]
    assert 1 < most[0] <= 4
    assert at_once(one, [], 4) == []


def test_first_error_stops_what_waits() -> None:
    begun: list[int] = []

    def one(n: int) -> None:
        begun.append(n)
        time.sleep(0.002)
        if n == 3:
            raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011
        at_once(one, range(500), 2)
    assert len(begun) < 100


@pytest.mark.parametrize(
    ("concurrency", "each", "together"), [(1, 1, 1), (8, 8, 1), (32, 32, 1), (64, MAX_THREADS, 2)]
)
def test_tasks_and_threads_keep_to_the_concurrency(
    concurrency: int, each: int, together: int
) -> None:
    config = ProjectConfig(backend="openai", model="m", judge=Judging(concurrency=concurrency))
    assert (threads(config), config.judge.tasks) == (each, together)
    assert each * together <= concurrency


def test_panel_counts_calls_by_ticket(provider: Provider) -> None:
    config = ProjectConfig(backend="openai", model="m", judge=Judging(model="judge"))
    settings = JudgeSettings(
        bucket="b", table="t", providers={}, endpoint_name="e",
        judge_base_url=provider.url, judge_secret_arn="",
    )  # fmt: skip
    panel = Panel(config, settings)
    asked = [
        Question(f"{name}.base.0.{order}", 0, [{"role": "user", "content": "?"}])
        for name in ("one", "two")
        for order in ("first", "second")
    ]
    assert panel.ask(asked) == ["Hello"] * 4
    assert {name: len(calls) for name, calls in panel.calls.items()} == {"one": 2, "two": 2}


def test_first_look_asks_the_golden_questions_and_no_other(
    world: World, provider: Provider
) -> None:
    answering(provider, lambda question: RIGHT.get(question, "30 days, €5"))
    world.put_project(LOOKS)
    world.take(world.put("projects/shop/golden.jsonl", GOLDEN))
    state = trained(world, provider, LOOKS)
    assert state["plan"]["batches"][0] == plan.GOLDEN
    state = world.run(state, until="judge")
    assert state["batches"].count({"batch": plan.GOLDEN}) == 1


CHAMPION = {"version": "old", "backend": "openai", "model_id": "ft:old"}


def with_golden(world: World, provider: Provider, count: int) -> dict[str, Any]:
    """A champion in place, so many golden questions in force, and a challenger trained."""
    answering(provider, lambda question: RIGHT.get(question, "It takes 30 days."))
    world.put_project(LOOKS)
    lines = [{"question": f"How long is {n}?", "reference": "30 days."} for n in range(count)]
    world.take(world.put("projects/shop/golden.jsonl", "\n".join(map(json.dumps, lines))))
    pointers.promote(world.registry, "shop", CHAMPION, who="ann", why="", at=1.0)
    return trained(world, provider, LOOKS)


def test_many_golden_questions_are_asked_by_several_tasks(world: World, provider: Provider) -> None:
    state = with_golden(world, provider, 60)
    assert state["plan"]["batches"][:4] == [-1, -2, -3, 0]
    state = world.run(state, until="verdict")
    golden = [k for k in world.listed(f"judge/shop/{state['plan']['hash']}/") if "golden" in k]
    assert [key.rpartition("/")[2] for key in golden] == [f"golden-00{n}.jsonl" for n in (1, 2, 3)]
    sizes = [world.store.read(key).count(b"\n") for key in golden]
    assert sizes == [25, 25, 10]
    found = verdict(world, state).evaluation.golden
    assert found is not None
    assert (found.questions, found.right["challenger"]) == (60, 60)
    assert found.against == "champion"


def test_champion_that_is_gone_is_left_out_of_the_golden_questions(
    world: World, provider: Provider
) -> None:
    """It is judged on the tickets by what is kept; the base is what `worse` refers to then."""
    state = with_golden(world, provider, 3)
    inner = provider.chat
    provider.chat = lambda model, messages: (
        "It takes 30 days." if model == "small" else "No." if "How long" in messages[-1]["content"]
        and model == "ft:tuned" else inner(model, messages)
    )  # fmt: skip
    item = {"run": state["run"], "plan": state["plan"], "model": state["poll"]["model"]}
    batch.handler({**item, "batch": 0}, None)
    forget(provider, ["ft:old"])
    state = world.run(state, until="verdict")
    evaluation = verdict(world, state).evaluation
    assert "champion" in evaluation.comparisons
    assert evaluation.golden is not None
    assert evaluation.golden.against == "base"
    assert len(evaluation.golden.worse) == 3
    assert set(evaluation.golden.right) == {"challenger", "base"}


def test_golden_questions_wait_for_a_champion_whose_provider_is_in_trouble(
    world: World, provider: Provider
) -> None:
    state = with_golden(world, provider, 1)
    provider.refuses = lambda handler: (
        refusing(503)(handler) if b"ft:old" in handler.body else handler._post_chat()
    )
    item = {"run": state["run"], "plan": state["plan"], "model": state["poll"]["model"]}
    with pytest.raises(RetryableError):
        batch.handler({**item, "batch": -1}, None)


def settings_of(world: World, provider: Provider) -> JudgeSettings:
    access = {"openai": Access(base_url=provider.url, secret_arn="")}
    return JudgeSettings(
        bucket=world.bucket, table=world.table, providers=access, endpoint_name="e",
        judge_base_url=provider.url, judge_secret_arn="",
    )  # fmt: skip


def test_answer_of_an_endpoints_base_is_not_that_of_another_base_model(
    world: World, provider: Provider
) -> None:
    config = ProjectConfig(backend="openai", model="m")

    def ask(base_model: str) -> int:
        prompts = [[{"role": "user", "content": "?"}]]
        asked = (config, settings_of(world, provider), world.store, "shop", "openai", "e-base")
        answers(*asked, prompts, base_model=base_model)
        return len(provider.chats)

    assert [ask("small"), ask("small"), ask("large"), ask("large")] == [1, 1, 2, 2]


def test_opinion_is_asked_for_once_and_an_unreadable_one_again(
    world: World, provider: Provider
) -> None:
    config = ProjectConfig(backend="openai", model="m", judge=Judging(model="judge"))
    kept = Kept(world.store, "shop")
    said = iter(["no idea", json.dumps({"winner": "A", "confidence": 0.9})])
    provider.chat = lambda model, messages: next(said)
    asked = [Question("one.base.0.first", 0, [{"role": "user", "content": "?"}])]

    def ask() -> str:
        return Panel(config, settings_of(world, provider), kept).ask(asked)[0]

    assert ask() == "no idea"
    assert ask() == ask() != "no idea"
    assert len(provider.chats) == 2


def test_batch_that_is_tried_again_pays_for_no_opinion_again(
    world: World, provider: Provider
) -> None:
    answering(provider, lambda question: RIGHT[question])
    state = world.run(trained(world, provider, LOOKS), until="judge")
    keys = [k for k in world.listed(f"judge/shop/{state['plan']['hash']}/") if "batch-" in k]
    before, asked = {key: world.store.read(key) for key in keys}, len(provider.chats)
    for key in keys:
        world.store.delete(key)
    for index in range(len(keys)):
        batch.handler({**state, "model": state["poll"]["model"], "batch": index}, None)
    assert len(provider.chats) == asked
    assert {key: world.store.read(key) for key in keys} == before


@pytest.mark.parametrize("status", [400, 404])
def test_similarity_that_is_refused_is_left_out(
    world: World, provider: Provider, status: int
) -> None:
    state = embedding(world, provider, status)
    state = world.run(state, until="verdict")
    assert set(verdict(world, state).evaluation.scores["challenger"]) == {"chrf"}


def test_no_judge_is_paid_before_the_similarities_are_there(
    world: World, provider: Provider
) -> None:
    state = embedding(world, provider, 503)
    with pytest.raises(RetryableError):
        world.run(state, until="judge")
    assert "judge" not in {chat["model"] for chat in provider.chats}


def embedding(world: World, provider: Provider, status: int) -> dict[str, Any]:
    """A project with an embedding model that answers with this status, about to be judged."""
    answering(provider, lambda question: RIGHT[question])
    looks = LOOKS.replace("judge: {", "judge: {embedding_model: e, ")
    state = trained(world, provider, looks)
    provider.refuses = lambda handler: (
        refusing(status)(handler) if handler.path.endswith("/embeddings") else handler._post_chat()
    )
    return state
