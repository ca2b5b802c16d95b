"""A champion that does not answer any more, judged by what it said before."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from dropforge.artifacts import Verdict, evaluation_key, recorded_key
from dropforge.backends import Completion
from dropforge.backends.migration import Migration
from dropforge.backends.openai_api import OpenAIBackend
from dropforge.chat import decode_examples
from dropforge.errors import BackendError, JudgeError, RetryableError
from dropforge.judge import choose_samples
from dropforge.recorded import (
    RecordedAnswers,
    Recording,
    decode_recorded,
    encode_recorded,
    prompt_digest,
)
from tests.support.moves import ANSWERS, NEW, OLD, TWO, forget, promoted, set_clock
from tests.support.provider import Provider, answers
from tests.support.world import World

BEFORE, AFTER = date(2026, 11, 22), date(2027, 2, 1)
PROMPT = "You are a helpful support agent. Answer briefly and correctly."
RECORDING = Recording("ft:old", 300, prompt_digest(PROMPT), "2026-12-24")


@pytest.fixture(autouse=True)
def _clock(monkeypatch: pytest.MonkeyPatch) -> None:
    set_clock(monkeypatch, BEFORE)


def test_recorded_answers_are_read_back_as_they_were_written() -> None:
    kept = RecordedAnswers(RECORDING, {"b": "zwei\n", "a": "eins \u2028 €", "c": ""})
    data = encode_recorded(kept)
    assert decode_recorded(data) == kept
    assert data.count(b"\n") == 4
    assert decode_recorded(encode_recorded(RecordedAnswers(RECORDING, {}))).answers == {}


@pytest.mark.parametrize(
    ("max_tokens", "prompt", "fits"), [(300, PROMPT, True), (200, PROMPT, False), (300, "", False)]
)
def test_answers_that_were_asked_for_otherwise_do_not_fit(
    max_tokens: int, prompt: str, fits: bool
) -> None:
    assert RecordedAnswers(RECORDING, {}).fits(max_tokens, prompt) is fits


def record(
    world: World, state: dict[str, Any], kept: RecordedAnswers | None = None
) -> RecordedAnswers:
    """Recorded answers of the champion: the agents' own."""
    dataset = state["dataset"]["hash"]
    test = decode_examples(world.store.read(f"validate/shop/{dataset}/test.jsonl"))
    found = {t.id: ANSWERS[t.question] for t in choose_samples(test, 60)}
    kept = kept or RecordedAnswers(RECORDING, found)
    version = state["poll"]["model"]["version"]
    world.store.write(recorded_key("shop", version, dataset), encode_recorded(kept))
    return kept


def started(world: World, provider: Provider, *, recorded: bool = False) -> dict[str, Any]:
    """A move whose new model is trained and about to be judged."""
    migration = Migration(world.store, world.registry, world.arn)
    reigning = migration.reigning("shop")
    assert reigning is not None
    assert migration.start(reigning, 1, now=1.0, recorded=recorded)
    state = world.run({**world.executions()[-1], "clean": {}}, until="launch")
    provider.finish(model=NEW)
    return world.run(state, until="poll")


def verdict(world: World, state: dict[str, Any]) -> Verdict:
    return world.store.load(evaluation_key("shop", state["evaluation"]["hash"]), Verdict)


def lose_answers(world: World) -> None:
    """The answers that an earlier evaluation asked for are gone."""
    for key in world.listed("judge/shop/answers/"):
        world.store.delete(key)


def asked(provider: Provider, model: str) -> int:
    return sum(chat["model"] == model for chat in provider.chats)


def test_dark_champion_is_judged_by_its_recorded_answers(
    world: World, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(world, promoted(world, provider))
    set_clock(monkeypatch, AFTER)
    before = asked(provider, OLD)
    state = started(world, provider)
    forget(provider, [OLD])
    state = world.run(state, until="verdict")
    found = verdict(world, state)
    assert asked(provider, OLD) == before
    assert found.evaluation.recorded == {"champion": "2026-12-24"}
    against = found.evaluation.comparisons["champion"]
    assert against.scored == found.evaluation.samples
    assert against.win_rate.point == 0.5
    assert found.decision.verdict == "promote"
    assert "the champion's answers recorded on 2026-12-24" in found.decision.reasons
    assert (
        "recorded on 2026-12-24"
        in world.store.read(
            evaluation_key("shop", state["evaluation"]["hash"], "report.html")
        ).decode()
    )
    assert world.run(state)["promotion"]["promoted"]


def test_better_recorded_champion_stays(
    world: World, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Recorded answers are a real opponent: the new model gives worse ones here."""
    record(world, promoted(world, provider))
    set_clock(monkeypatch, AFTER)
    chat = provider.chat
    provider.chat = lambda model, messages: (
        "I have no idea." if model == NEW else chat(model, messages)
    )
    state = started(world, provider)
    forget(provider, [OLD])
    found = verdict(world, world.run(state, until="verdict"))
    against = found.evaluation.comparisons["champion"]
    assert against.losses == against.scored == found.evaluation.samples
    assert found.decision.verdict == "reject"


def test_champion_that_is_gone_before_its_date_is_judged_by_its_recorded_answers(
    world: World, provider: Provider
) -> None:
    record(world, promoted(world, provider))
    state = started(world, provider)
    lose_answers(world)
    forget(provider, [OLD])
    found = verdict(world, world.run(state, until="verdict"))
    assert found.evaluation.recorded == {"champion": "2026-12-24"}
    assert found.evaluation.comparisons["champion"].scored == found.evaluation.samples


def test_champion_that_is_gone_still_has_the_answers_that_it_was_judged_by(
    world: World, provider: Provider
) -> None:
    """They were asked for when it was the challenger, on the same tickets, and are kept."""
    promoted(world, provider)
    state = started(world, provider)
    forget(provider, [OLD])
    found = verdict(world, world.run(state, until="verdict"))
    against = found.evaluation.comparisons["champion"]
    assert against.scored == found.evaluation.samples
    assert not found.evaluation.recorded


def test_champion_whose_provider_is_down_is_judged_by_its_recorded_answers(
    world: World, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And without any, the batch is tried again: the provider may come back."""
    recording = promoted(world, provider)
    state = world.run(started(world, provider), until="plan")
    lose_answers(world)

    def old_one_is_down(self: Any, model: str, *rest: Any) -> Completion:
        if model == OLD:
            raise RetryableError("The provider did not answer.")
        return complete(self, model, *rest)

    complete = OpenAIBackend.complete
    monkeypatch.setattr(OpenAIBackend, "complete", old_one_is_down)
    with pytest.raises(RetryableError):
        world.run({**state}, until="judge")
    record(world, recording)
    found = verdict(world, world.run(state, until="verdict"))
    assert found.evaluation.recorded == {"champion": "2026-12-24"}


@pytest.mark.parametrize("day", [BEFORE, AFTER])
def test_gone_champion_without_recorded_answers_is_left_out_and_named(
    world: World, provider: Provider, monkeypatch: pytest.MonkeyPatch, day: date
) -> None:
    version = promoted(world, provider)["poll"]["model"]["version"]
    set_clock(monkeypatch, day)
    state = started(world, provider)
    lose_answers(world)
    forget(provider, [OLD])
    found = verdict(world, world.run(state, until="verdict"))
    assert set(found.evaluation.comparisons) == {"base"}
    assert found.decision.verdict == "promote"
    said = f"the champion {version} does not answer any more and no answers of it were recorded"
    assert any(reason.startswith(said) for reason in found.decision.reasons)


def test_champion_that_refuses_for_another_reason_fails_the_judging(
    world: World, provider: Provider
) -> None:
    """A revoked key is no end of a model: nothing may be promoted for it."""
    promoted(world, provider)
    state = world.run(started(world, provider), until="plan")
    lose_answers(world)

    def no_key(handler: Any) -> None:
        known = OLD.encode() not in handler.body
        handler._post_chat() if known else answers(401, "invalid_api_key")(handler)

    provider.refuses = no_key
    with pytest.raises(BackendError, match="401"):
        world.run(state, until="judge")


def test_recorded_answers_are_used_where_the_run_asks_for_them(
    world: World, provider: Provider
) -> None:
    record(world, promoted(world, provider))
    before = asked(provider, OLD)
    state = world.run(started(world, provider, recorded=True), until="verdict")
    assert asked(provider, OLD) == before
    assert verdict(world, state).evaluation.recorded == {"champion": "2026-12-24"}


def test_recorded_answers_that_are_not_there_are_asked_for_by_name(
    world: World, provider: Provider
) -> None:
    promoted(world, provider)
    with pytest.raises(JudgeError, match="dropforge migrate record"):
        world.run(started(world, provider, recorded=True), until="judge")


def test_answers_to_another_prompt_are_no_opponents(
    world: World, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = promoted(world, provider)
    other = Recording("ft:old", 300, prompt_digest("Be rude."), "2026-12-24")
    record(world, state, RecordedAnswers(other, record(world, state).answers))
    set_clock(monkeypatch, AFTER)
    found = verdict(world, world.run(started(world, provider), until="verdict"))
    assert "champion" not in found.evaluation.comparisons


def test_tickets_without_a_recorded_answer_are_not_scored_against_the_champion(
    world: World, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = promoted(world, provider)
    whole = record(world, state).answers
    half = dict(list(whole.items())[: len(whole) // 2])
    record(world, state, RecordedAnswers(RECORDING, half))
    set_clock(monkeypatch, AFTER)
    found = verdict(world, world.run(started(world, provider), until="verdict"))
    assert found.evaluation.comparisons["champion"].scored == len(half)
    assert found.decision.verdict == "not enough evidence"


def test_evaluation_against_recorded_answers_is_another_one(
    world: World, provider: Provider
) -> None:
    record(world, promoted(world, provider, TWO))
    fresh = world.run(started(world, provider), until="plan")["plan"]
    assert "recorded" not in fresh["champion"]
    state = {**world.executions()[-1], "clean": {}, "recorded": True}
    again = world.run(state, until="plan")["plan"]
    assert again["champion"]["recorded"]
    assert again["hash"] != fresh["hash"]
