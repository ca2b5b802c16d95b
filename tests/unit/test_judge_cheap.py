"""A look judged by way of the providers' batch APIs: submit and collect, as they are called."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from dropforge.artifacts import dataset_key
from dropforge.chat import encode_lines
from dropforge.errors import RetryableError
from dropforge.judge import Outcome, Sample
from lambdas.judge import batch, collect, plan, submit
from lambdas.judge.cheap import Sent
from tests.support.batch_provider import BatchProvider, running_batch_provider
from tests.support.provider import answers, drops
from tests.support.tickets import example
from tests.support.world import World

CHEAP = "speed: cheap, model: judge, samples: 6, batch: 3"
MODEL = {
    "version": "new",
    "backend": "openai",
    "model_id": "ft:tuned",
    "base_model": "small",
    "base_model_id": "small",
    "spec": "s",
}
TICKETS = [example(number) for number in range(6)]


@pytest.fixture
def provider() -> Iterator[BatchProvider]:
    """The tuned model gives the agents' answers, the base none, and every judge sees it."""
    known = {ticket.prompt[0].content: ticket.reference for ticket in TICKETS}

    def chat(model: str, messages: list[dict[str, str]]) -> str:
        said = messages[-1]["content"]
        if model.startswith("judge"):
            first = said.index("Please order part", said.index("<answer_a"))
            winner = "A" if first < said.index("<answer_b") else "B"
            return json.dumps({"winner": winner, "confidence": 0.9})
        return known[said] if model == "ft:tuned" else "I do not know."

    with running_batch_provider() as provider:
        provider.chat = chat
        yield provider


class Judging:
    """One look of an evaluation at all six tickets, in two batches."""

    def __init__(self, world: World, judge: str = CHEAP) -> None:
        self.world = world
        world.put_project(f"backend: openai\nmodel: small\njudge: {{{judge}}}\n")
        world.store.write(dataset_key("shop", "d", "test.jsonl"), encode_lines(TICKETS))
        about = {"dataset": {"hash": "d"}, "poll": {"model": MODEL}}
        self.state: dict[str, Any] = {**world.drop("id,question,answer\n"), **about}
        self.state["plan"] = plan.handler(self.state, None)

    def answer(self) -> None:
        """What the Map does."""
        for index in self.state["plan"]["batches"]:
            batch.handler({**self.state, "model": MODEL, "batch": index}, None)

    def submit(self) -> dict[str, Any]:
        self.state["cheap"] = submit.handler(self.state, None)
        return dict(self.state["cheap"])

    def collect(self, most: int = 9) -> int:
        """Collect until it is done, as the state machine does; how many calls it took."""
        for calls in range(1, most + 1):
            self.state["cheap"] = collect.handler(self.state, None)
            if self.state["cheap"]["done"]:
                return calls
            assert self.state["cheap"]["poll_seconds"] > 0
        pytest.fail("the look does not end")

    def look(self) -> list[Sample]:
        self.answer()
        self.submit()
        self.collect()
        return self.samples()

    def samples(self) -> list[Sample]:
        keys = [key for key in self.world.listed("judge/shop") if "/batch-" in key]
        lines = b"".join(self.world.store.read(key) for key in sorted(keys))
        return msgspec.json.Decoder(Sample).decode_lines(lines)

    def key(self, kind: str) -> str:
        (found,) = [key for key in self.world.listed("judge/shop") if f"/{kind}-" in key]
        return found


@pytest.fixture
def judging(world: World) -> Judging:
    return Judging(world)


def to_judges(provider: BatchProvider) -> list[str]:
    """The judges that were asked directly."""
    return [chat["model"] for chat in provider.chats if chat["model"].startswith("judge")]


def outcomes(samples: list[Sample]) -> list[Outcome]:
    return [sample.judged["base"].outcome for sample in samples]


def test_a_look_is_one_batch_and_no_judge_is_asked_directly(
    judging: Judging, provider: BatchProvider
) -> None:
    judging.answer()
    assert judging.samples() == []
    assert judging.submit() == {"done": False, "poll_seconds": 5}
    (sent,) = provider.batches
    lines = [json.loads(line) for line in provider.contents[sent["input_file_id"]].splitlines()]
    assert len(lines) == 2 * len(TICKETS)
    assert judging.collect() == 2
    assert outcomes(judging.samples()) == [Outcome.WIN] * 6
    assert to_judges(provider) == []


def test_the_cheap_way_judges_as_the_fast_one(world: World, provider: BatchProvider) -> None:
    fast = Judging(world, CHEAP.replace("cheap", "fast"))
    assert not fast.state["plan"]["cheap"]
    fast.answer()
    wanted = fast.samples()
    direct = [chat for chat in provider.chats if chat["model"] == "judge"]
    for key in world.listed("judge/shop"):
        if "/batch-" in key:
            world.store.delete(key)

    cheap = Judging(world)
    found = cheap.look()
    assert [s.judged for s in found] == [s.judged for s in wanted]
    assert [s.answers for s in found] == [s.answers for s in wanted]
    lines = provider.contents[provider.batches[0]["input_file_id"]].splitlines()
    batched = [json.loads(line)["body"] for line in lines]
    assert {frozenset(body) - {"messages"} for body in batched} == {
        frozenset(body) - {"messages"} for body in direct
    }
    for name in ("max_tokens", "temperature", "model"):
        assert {body[name] for body in batched} == {body[name] for body in direct}


def test_what_batches_took_is_counted_as_the_judges(judging: Judging) -> None:
    for sample in judging.look():
        used = sample.usage["judge"]
        assert (used.prompt_tokens, used.completion_tokens, used.seconds) == (14, 4, 0.0)


def test_every_judge_of_a_panel_has_a_batch_of_its_own(
    world: World, provider: BatchProvider
) -> None:
    panel = "panel: [{model: judge-2, provider: azure}, {model: judge-3, provider: bedrock}]"
    found = Judging(world, f"{CHEAP}, {panel}").look()
    assert outcomes(found) == [Outcome.WIN] * 6
    assert all(len(sample.judged["base"].by) == 3 for sample in found)
    assert [b["endpoint"] for b in provider.batches] == [
        "/v1/chat/completions",
        "/chat/completions",
    ]
    assert set(to_judges(provider)) == {"judge-3"}
    assert len(to_judges(provider)) == 12
    assert found[0].usage["judge"].prompt_tokens == 2 * 2 * 7


def test_a_server_without_batches_is_asked_directly(
    judging: Judging, provider: BatchProvider
) -> None:
    provider.has_batches = False
    judging.answer()
    assert judging.submit() == {"done": False, "poll_seconds": 1}
    assert judging.collect() == 1
    assert outcomes(judging.samples()) == [Outcome.WIN] * 6
    assert to_judges(provider) == ["judge"] * 12


def test_what_an_expired_batch_did_not_do_is_asked_directly(
    judging: Judging, provider: BatchProvider
) -> None:
    provider.ends, provider.undone = "expired", 5
    assert outcomes(judging.look()) == [Outcome.WIN] * 6
    assert to_judges(provider) == ["judge"] * 5


def test_a_batch_that_failed_is_asked_directly(judging: Judging, provider: BatchProvider) -> None:
    provider.ends = "failed"
    assert outcomes(judging.look()) == [Outcome.WIN] * 6
    assert to_judges(provider) == ["judge"] * 12


def test_an_answer_that_cannot_be_read_is_asked_for_once_more(
    judging: Judging, provider: BatchProvider
) -> None:
    honest, asked = provider.chat, iter(range(1000))

    def chat(model: str, messages: list[dict[str, str]]) -> str | dict[str, Any]:
        unread = model == "judge" and next(asked) < 4
        return "The first one, I would say." if unread else honest(model, messages)

    provider.chat = chat
    assert outcomes(judging.look()) == [Outcome.WIN] * 6
    assert to_judges(provider) == ["judge"] * 4


def test_a_judge_that_is_never_read_scores_nothing(
    judging: Judging, provider: BatchProvider
) -> None:
    honest = provider.chat
    provider.chat = lambda model, said: "?" if model == "judge" else honest(model, said)
    assert outcomes(judging.look()) == [Outcome.UNSCORED] * 6
    assert to_judges(provider) == ["judge"] * 12


def test_a_deployment_for_batches_alone_leaves_unread_what_it_cannot_be_asked_again(
    judging: Judging, provider: BatchProvider
) -> None:
    honest, asked = provider.chat, iter(range(1000))

    def chat(model: str, messages: list[dict[str, str]]) -> str | dict[str, Any]:
        unread = model == "judge" and next(asked) == 0
        return "The first one, I would say." if unread else honest(model, messages)

    provider.chat = chat
    judging.answer()
    judging.submit()
    provider.refuses_chats = answers(400)
    judging.collect()
    assert sorted(outcomes(judging.samples())) == [Outcome.UNSCORED, *[Outcome.WIN] * 5]


def test_what_such_a_deployment_did_not_do_in_a_batch_stays_unscored(
    judging: Judging, provider: BatchProvider
) -> None:
    provider.ends, provider.undone = "expired", 1
    judging.answer()
    judging.submit()
    provider.refuses_chats = answers(400)
    judging.collect()
    assert sorted(outcomes(judging.samples())) == [Outcome.UNSCORED, *[Outcome.WIN] * 5]


def test_a_provider_in_trouble_is_no_deployment_for_batches_alone(
    judging: Judging, provider: BatchProvider
) -> None:
    provider.ends, provider.undone = "expired", 1
    judging.answer()
    judging.submit()
    provider.refuses_chats = answers(503)
    with pytest.raises(RetryableError):
        judging.collect()


def test_a_create_whose_answer_was_lost_makes_one_batch(
    judging: Judging, provider: BatchProvider
) -> None:
    provider.batch_faults = [drops]
    judging.answer()
    judging.submit()
    judging.submit()
    judging.collect()
    assert len(provider.batches) == 1


def test_a_submit_killed_before_it_could_note_its_batch_makes_one_batch(
    judging: Judging, provider: BatchProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider.unlisted = 2
    judging.answer()
    saves: list[Sent] = []

    def killed(store: Any, key: str, manifest: Sent) -> None:
        if saves:
            raise KeyboardInterrupt
        saves.append(manifest)
        store.write(key, msgspec.json.encode(manifest))

    with monkeypatch.context() as patched:
        patched.setattr("dropforge.backends.store.Store.save", killed)
        with pytest.raises(KeyboardInterrupt):
            judging.submit()
    assert len(provider.batches) == 1
    assert judging.world.store.load(judging.key("sent"), Sent).batches == {}
    judging.submit()
    assert len(provider.batches) == 1
    judging.collect()
    assert to_judges(provider) == []


def test_a_run_that_is_started_again_pays_for_no_second_batch(
    judging: Judging, provider: BatchProvider
) -> None:
    judging.answer()
    judging.submit()
    before = len(provider.order)
    judging.answer()
    judging.submit()
    assert len(provider.order) == before
    judging.collect()
    first = judging.samples()
    for key in judging.world.listed("judge/shop"):
        if "/batch-001" in key:
            judging.world.store.delete(key)
    judging.answer()
    judging.submit()
    judging.collect()
    assert judging.samples() == first
    assert len(provider.batches) == 1
    assert to_judges(provider) == []


def test_collect_called_again_does_nothing(judging: Judging, provider: BatchProvider) -> None:
    found = judging.look()
    before = len(provider.order)
    assert judging.collect() == 1
    assert judging.samples() == found
    assert len(provider.order) == before


def test_a_provider_that_forgets_does_so_in_vain(
    judging: Judging, provider: BatchProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collect, "WORK_S", 0)
    judging.answer()
    judging.submit()
    while not judging.samples():
        collect.handler(judging.state, None)
    assert len(judging.samples()) == 3
    provider.batches.clear()
    provider.contents.clear()
    assert judging.collect() == 1
    assert outcomes(judging.samples()) == [Outcome.WIN] * 6
    assert to_judges(provider) == []


def test_a_provider_that_is_down_is_asked_again_later(
    judging: Judging, provider: BatchProvider
) -> None:
    judging.answer()
    provider.refuses = answers(503)
    with pytest.raises(RetryableError):
        judging.submit()
    provider.refuses = None
    judging.submit()
    provider.refuses = answers(503)
    with pytest.raises(RetryableError):
        judging.collect()
    provider.refuses = None
    judging.collect()
    assert len(provider.batches) == 1


def test_time_is_counted_from_when_a_batch_was_created(
    judging: Judging, provider: BatchProvider
) -> None:
    """Not from the intent: a provider may have been down for a day before it took the batch."""
    judging.answer()
    provider.refuses = answers(503)
    with pytest.raises(RetryableError):
        judging.submit()
    waiting_since(judging, 27 * 3600)
    provider.refuses, provider.stays = None, True
    judging.submit()
    found = collect.handler(judging.state, None)
    assert (found["done"], found["poll_seconds"]) == (False, 5)
    assert provider.batches[0]["status"] != "cancelled"


def test_prompts_that_may_have_been_sent_are_not_written_again(
    judging: Judging, provider: BatchProvider
) -> None:
    judging.answer()
    prefix = f"judge/shop/{judging.state['plan']['hash']}/"
    before = {key: judging.world.store.read(key) for key in judging.world.listed(prefix)}
    for key in judging.world.listed("judge/shop/answers/"):
        judging.world.store.delete(key)
    asked = len(provider.chats)
    provider.chat = lambda model, messages: "Something else."
    judging.answer()
    assert {key: judging.world.store.read(key) for key in judging.world.listed(prefix)} == before
    assert len(provider.chats) == asked


def test_evaluation_of_another_system_prompt_is_another_one(judging: Judging) -> None:
    first = judging.state["plan"]["hash"]
    text = f"backend: openai\nmodel: small\nsystem_prompt: Be brief.\njudge: {{{CHEAP}}}\n"
    judging.world.put_project(text)
    about = {"dataset": {"hash": "d"}, "poll": {"model": MODEL}}
    again = {**judging.world.drop("id,question,answer\n", "exports/shop/b.csv"), **about}
    assert plan.handler(again, None)["hash"] != first


def waiting_since(judging: Judging, seconds: float) -> None:
    """Play that the look's batches were sent so long ago."""
    key = judging.key("sent")
    sent = judging.world.store.load(key, Sent)
    judging.world.store.save(key, Sent(time.time() - seconds, sent.batches))


@pytest.mark.parametrize(("waited", "pause"), [(0, 5), (80, 10), (3600, 450), (80_000, 900)])
def test_the_longer_a_batch_takes_the_less_often_it_is_looked_at(
    judging: Judging, provider: BatchProvider, waited: int, pause: int
) -> None:
    provider.stays = True
    judging.answer()
    judging.submit()
    waiting_since(judging, waited)
    found = collect.handler(judging.state, None)
    assert not found["done"]
    assert pause <= found["poll_seconds"] <= pause + 1


def test_a_batch_that_outlives_its_day_is_cancelled(
    judging: Judging, provider: BatchProvider
) -> None:
    provider.stays = True
    judging.answer()
    judging.submit()
    waiting_since(judging, 27 * 3600)
    assert judging.collect() == 2
    assert provider.batches[0]["status"] == "cancelled"
    assert outcomes(judging.samples()) == [Outcome.WIN] * 6
    assert to_judges(provider) == ["judge"] * 12


def test_the_run_tells_how_far_its_batches_are(judging: Judging) -> None:
    judging.answer()
    judging.submit()
    collect.handler(judging.state, None)
    told = judging.world.run_item(judging.state)["judge"]["batches"]
    assert told == {"done": 0, "asked": 12}
    judging.collect()
    assert judging.world.run_item(judging.state)["judge"]["batches"] == {"done": 12, "asked": 12}


def test_golden_questions_are_for_no_judge(judging: Judging) -> None:
    judging.answer()
    judging.state["plan"]["batches"] = [-1]
    assert judging.submit() == {"done": False, "poll_seconds": 1}
    assert judging.collect() == 1
