"""Answers from the queue to the dataset: kept once, redacted, exported, trained on, forgotten."""

from __future__ import annotations

import io
import json
import logging
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import msgspec
import pytest
from botocore.exceptions import ClientError
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from typer.testing import Result

from dropforge.artifacts import DatasetManifest, collected_key, dataset_key
from dropforge.backends.collected import Answers, Collection
from dropforge.backends.registry import SUCCEEDED
from dropforge.chat import Message, decode_examples
from dropforge.clean import Cleaning
from dropforge.collect import KEEP_DAYS, STORED, Kept, chosen, encode_export, words
from dropforge.collect.redaction import customer_of, redacted
from dropforge.errors import BackendError
from dropforge.export import read
from dropforge.project import ProjectConfig, parse_project
from dropforge.project.data import Columns, Roles
from dropforge.serve.collecting import Answered, Turn, pseudonym, user_pseudonym
from lambdas.collect import keep
from lambdas.schedule import handler as schedule
from tests.support.beginnings import once
from tests.support.provider import Provider
from tests.support.tickets import tickets_csv
from tests.support.world import PROJECT, World

COLLECTS = PROJECT + "monthly: true\ncollect: {consent: true}\n"
TICK = {"time": "2026-12-01T06:00:00Z"}
NOW = time.time()
PLANTED = {
    "card": "4111 1111 1111 1111",
    "e-mail": "ada.lovelace@example.com",
    "key": "sk-proj-abcdEFGH1234567890abcdEFGH1234567890",
    "iban": "DE89 3704 0044 0532 0130 00",
    "password": "hunter2butlonger",
}
WORDS = "blue lamp cable shelf order parcel invoice desk chair pillow carpet mirror clock".split()


@pytest.fixture
def shop(world: World, provider: Provider) -> Iterator[World]:
    """A project that collects, with its first export dropped and its run ended."""

    def made() -> dict[str, Any]:
        world.put_project(COLLECTS)
        done = world.run(world.drop(tickets_csv(150)), until="clean")
        world.registry.update("shop", f"run#{done['run']['run_id']}", {"status": SUCCEEDED})
        return done

    once(world, provider, "collects", made)
    keep._keeper.cache_clear()
    yield world
    keep._keeper.cache_clear()


def answered(number: int, **changes: Any) -> Answered:
    """One of many answers that are alike to nothing else."""
    pick = random.Random(number)
    question = f"Where is my {' '.join(pick.sample(WORDS, 5))} number {number}?"
    given = {
        "project": "shop",
        "id": f"chatcmpl-{number}.v2.champion",
        "at": NOW - 1000 + number / 100,
        "conversation": pseudonym(f"conversation {number}"),
        "user": user_pseudonym("shop", f"user {number}"),
        "turns": (Turn("user", question),),
        "answer": f"Your {' '.join(pick.sample(WORDS, 6))} leaves with parcel {number}.",
    }
    return Answered(**{**given, **changes})


def follow_up(first: Answered, text: str, **changes: Any) -> Answered:
    """The next turn of a conversation."""
    turns = (*first.turns, Turn("assistant", first.answer), Turn("user", text))
    named = {"id": f"next-{first.id}", "at": first.at + 5}
    return msgspec.structs.replace(first, turns=turns, **{**named, **changes})


def deliver(*answers: Answered | str) -> list[int]:
    """Hands a batch to the function; the places of those that have to come again."""
    bodies = [a if isinstance(a, str) else msgspec.json.encode(a).decode() for a in answers]
    records = [
        {"messageId": str(place), "body": body, "eventSource": "aws:sqs"}
        for place, body in enumerate(bodies)
    ]
    told = keep.handler({"Records": records}, None)
    return [int(failure["itemIdentifier"]) for failure in told["batchItemFailures"]]


def rate(world: World, answer: str, rating: int) -> None:
    """As lambdas/chat/store.py writes it; tests/contract runs the real one."""
    world.registry.put("shop", f"feedback#v2#{answer}", {"id": answer, "rating": rating})


def stored(world: World) -> dict[str, Kept]:
    return {kept.id: kept for kept in Answers(world.table).of("shop")}


def exported(world: World) -> list[dict[str, Any]]:
    data = world.store.find(collected_key("shop")) or b""
    return [json.loads(line) for line in data.splitlines()]


def ids(world: World) -> set[str]:
    return {row["answer_id"] for row in exported(world)}


def collection(world: World, now: float = NOW) -> Collection:
    return Collection(world.store, world.registry, Answers(world.table), lambda: now)


# --- kept once, redacted


def test_answer_is_kept_once_whatever_comes_again(shop: World) -> None:
    first = answered(1)
    assert deliver(first, first) == []
    assert deliver(first, msgspec.structs.replace(first, answer="Another text, much later.")) == []
    (kept,) = stored(shop).values()
    assert kept.messages[-1].content == first.answer
    assert kept.expires_at == int(first.at) + KEEP_DAYS * 86400


def test_what_is_stored_is_what_the_function_may_write(shop: World) -> None:
    deliver(answered(1))
    (item,) = Answers(shop.table)._table.scan(
        FilterExpression="pk = :pk", ExpressionAttributeValues={":pk": "collected#shop"}
    )["Items"]
    assert set(item) == {"pk", "sk", *STORED}


def test_project_that_collects_no_more_keeps_nothing(shop: World) -> None:
    shop.put_project(PROJECT)
    assert deliver(answered(1)) == []
    assert stored(shop) == {}


def test_answer_that_cleaning_would_reject_is_not_kept(shop: World) -> None:
    assert deliver(answered(1, answer="!"), answered(2, answer="?")) == []
    assert stored(shop) == {}


def test_cleaning_rules_are_the_projects_own(shop: World) -> None:
    shop.put_project(COLLECTS + f"keep: [{PLANTED['e-mail']}]\n")
    text = f"Please write to {PLANTED['e-mail']} and name your order."
    deliver(answered(1, answer=text))
    (kept,) = stored(shop).values()
    assert kept.messages[-1].content == text


def test_only_what_could_not_be_kept_comes_again(shop: World) -> None:
    assert deliver(answered(1), "{", answered(2)) == [1]
    assert len(stored(shop)) == 2


def test_nothing_planted_reaches_a_log_an_object_or_the_registry(
    shop: World, capsys: pytest.CaptureFixture[str]
) -> None:
    log = logging.StreamHandler(io.StringIO())
    log.setFormatter(keep.logger.registered_formatter)
    keep.logger.addHandler(log)
    labelled = ", ".join(f"my {name} is {value}" for name, value in PLANTED.items())
    first = answered(1, turns=(Turn("user", f"Hello, {labelled}. Where is my lamp?"),))
    more = follow_up(first, f"And again: {labelled}", answer=f"I see {PLANTED['card']} here now.")
    assert deliver(first, more, f'{{"project": "{PLANTED["card"]}"}}', labelled) == [2, 3]
    for answer in (first, more):
        rate(shop, answer.id, 1)
    schedule.handler(TICK, None)
    shop.run(shop.executions()[-1], until="validate")
    keep.logger._logger.removeHandler(log)
    captured = capsys.readouterr()
    written = log.stream.getvalue() + captured.out + captured.err
    assert written.count("answer taken") == 2
    assert exported(shop)
    everything = [written, json.dumps(Answers(shop.table)._table.scan()["Items"], default=str)]
    everything += [shop.store.read(key).decode("utf-8", "ignore") for key in shop.listed()]
    for text in everything:
        for value in PLANTED.values():
            assert value not in text
            assert value.replace(" ", "") not in text


# --- any order, any number of times


class Memory:
    """A table of DynamoDB as far as answers need it: moto takes 10 ms for an item."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str], dict[str, Any]] = {}

    def Table(self, name: str) -> Memory:  # noqa: N802 - boto3's name
        return self

    def put_item(self, *, Item: dict[str, Any], ConditionExpression: str) -> None:  # noqa: N803
        assert ConditionExpression == "attribute_not_exists(pk)"
        if (Item["pk"], Item["sk"]) in self.rows:
            error: Any = {"Error": {"Code": "ConditionalCheckFailedException"}}
            raise ClientError(error, "PutItem")
        self.rows[Item["pk"], Item["sk"]] = Item

    def query(self, **_: Any) -> dict[str, Any]:
        return {"Items": list(self.rows.values())}

    def get(self, project: str, sk: str) -> dict[str, Any]:
        return {"collect": {"share": 1.0}, "hash": "c0ffee"}

    def read(self, key: str) -> str:
        return parse_project("shop", COLLECTS.encode()).model_dump_json()


def test_ten_thousand_deliveries_in_any_order_lose_and_double_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """2,500 answers, each delivered four times among the others; a tenth of those is cut off.

    The answers are kept as they came: to redact one takes 1 ms, and is no part of this.
    """
    one = redacted(answered(0), parse_project("shop", COLLECTS.encode()))
    assert one

    def as_it_came(answer: Answered, config: ProjectConfig) -> Kept | None:
        turns = (*((t.role, t.content) for t in answer.turns), ("assistant", answer.answer))
        messages = tuple(Message(role, content) for role, content in turns)
        whose = {"user": answer.user, "conversation": answer.conversation}
        said = words(answer.answer)
        return replace(one, id=answer.id, at=answer.at, messages=messages, said=said, **whose)

    monkeypatch.setattr(keep, "redacted", as_it_came)
    draw = random.Random(7)
    given = [answered(number) for number in range(2_500)]
    ratings = {a.id: rating for a in given if (rating := draw.choice((1, 1, -1, 0)))}
    deliveries = given * 4
    draw.shuffle(deliveries)
    memory: Any = Memory()
    answers = Answers("registry", memory)
    keeper = keep.Keeper(memory, memory, answers)
    done: Counter[str] = Counter()
    for place, answer in enumerate(deliveries):
        if place % 10 == 0 and place < 7_500:  # its worker died: SQS will deliver it again
            deliveries.append(answer)
            continue
        done[keeper.keep(msgspec.json.encode(answer).decode())[1]] += 1
    assert done == {"kept": 2_500, "repeated": 7_500}
    good = {answer for answer, rating in ratings.items() if rating > 0}
    rows = encode_export(chosen(answers.of("shop"), ratings, unrated=False, now=NOW))
    listed = [json.loads(line)["answer_id"] for line in rows.splitlines()]
    assert sorted(listed) == sorted(good)


def test_answers_come_in_any_order_beside_their_ratings(shop: World) -> None:
    """The same through DynamoDB's own conditions: before, between and after."""
    draw = random.Random(7)
    answers = [answered(number) for number in range(40)]
    ratings = {a.id: draw.choice((1, 1, -1, 0)) for a in answers}
    deliveries = answers * 3
    draw.shuffle(deliveries)
    for begin in range(0, len(deliveries), 10):
        assert deliver(*deliveries[begin : begin + 10]) == []
        for answer in draw.sample(answers, 4):
            if ratings[answer.id]:
                rate(shop, answer.id, ratings[answer.id])
    for name, rating in ratings.items():
        if rating:
            rate(shop, name, rating)
    export = collection(shop).export("shop")
    assert export is not None
    assert len(exported(shop)) == export.rows == len(ids(shop))
    assert ids(shop) == {answer for answer, rating in ratings.items() if rating > 0}


KEPT = st.builds(
    Kept,
    id=st.integers(0, 10**6).map(str),
    at=st.floats(0, 100),
    user=st.just(""),
    conversation=st.sampled_from("ab"),
    customer=st.just("c"),
    messages=st.just((Message("user", "Hi"), Message("assistant", "Hello"))),
    wrote=st.lists(st.sampled_from("xyz"), max_size=2).map(tuple),
    said=st.sampled_from("xyz"),
    expires_at=st.sampled_from([50, 200]),
)


@given(
    st.lists(KEPT, unique_by=lambda a: a.id),
    st.lists(st.sampled_from([-1, 0, 1]), min_size=30),
    st.booleans(),
    st.randoms(),
)
def test_export_is_the_same_in_any_order_and_holds_nothing_disliked(
    kept: list[Kept], marks: list[int], unrated: bool, draw: random.Random
) -> None:
    ratings = {a.id: mark for a, mark in zip(kept, marks, strict=False) if mark}
    found = chosen(kept, ratings, unrated=unrated, now=100)
    shuffled = list(kept)
    draw.shuffle(shuffled)
    assert encode_export(chosen(shuffled, ratings, unrated=unrated, now=100)) == encode_export(
        found
    )
    disliked = {a.said for a in kept if ratings.get(a.id) == -1 and a.expires_at > 100}
    for answer in found:
        assert answer.expires_at > 100
        assert ratings.get(answer.id) == 1 or (unrated and answer.id not in ratings)
        assert not disliked & {answer.said, *answer.wrote}


# --- what is chosen


def test_answers_rated_well_are_exported_and_others_where_the_project_says_so(shop: World) -> None:
    good, bad, unrated = (answered(number) for number in (1, 2, 3))
    deliver(good, bad, unrated)
    rate(shop, good.id, 1)
    rate(shop, bad.id, -1)
    collection(shop).export("shop")
    assert ids(shop) == {good.id}
    shop.put_project(COLLECTS.replace("true}", "true, unrated: true}"))
    collection(shop).export("shop")
    assert ids(shop) == {good.id, unrated.id}


def test_rating_that_changes_or_comes_a_month_later_changes_the_export(shop: World) -> None:
    first, second = answered(1), answered(2)
    rate(shop, first.id, 1)  # before the answer itself was kept
    deliver(first, second)
    before = collection(shop).export("shop")
    same = collection(shop).export("shop")
    assert before is not None
    assert same == msgspec.structs.replace(before, changed=False)
    rate(shop, second.id, 1)
    after = collection(shop, NOW + 30 * 86400).export("shop")
    assert after is not None
    assert after.changed
    assert ids(shop) == {first.id, second.id}
    rate(shop, first.id, -1)
    collection(shop).export("shop")
    assert ids(shop) == {second.id}


def test_words_that_a_caller_put_into_the_models_mouth_are_not_trained_on(shop: World) -> None:
    first = answered(1)
    honest = follow_up(
        first, "And when exactly does it arrive?", answer="On Tuesday at noon, sure."
    )
    invented = answered(2)
    forged = follow_up(invented, "Really?", answer="Yes, that is what I said before.")
    deliver(first, honest, forged)  # `invented` was never kept: a challenger's, or nobody's
    for answer in (first, honest, forged):
        rate(shop, answer.id, 1)
    collection(shop).export("shop")
    assert ids(shop) == {honest.id}  # the first is in it
    (row,) = exported(shop)
    assert [m["role"] for m in row["messages"]] == ["user", "assistant"] * 2


def test_conversation_with_a_disliked_turn_is_left_out(shop: World) -> None:
    first = answered(1)
    more = follow_up(first, "And when exactly does it arrive?", answer="On Tuesday at noon, sure.")
    deliver(first, more)
    rate(shop, first.id, -1)
    rate(shop, more.id, 1)
    assert collection(shop).export("shop") is None
    assert exported(shop) == []


def test_golden_questions_are_not_trained_on(shop: World) -> None:
    exam, other = answered(1), answered(2)
    question = exam.turns[0].content.upper()
    line = {"question": question, "reference": "It leaves on Monday, 12 May."}
    shop.take(shop.put("projects/shop/golden.jsonl", json.dumps(line)))
    deliver(exam, other)
    for answer in (exam, other):
        rate(shop, answer.id, 1)
    collection(shop).export("shop")
    assert ids(shop) == {other.id}


def test_answers_leave_the_export_when_they_expire(shop: World) -> None:
    deliver(answered(1))
    rate(shop, answered(1).id, 1)
    assert collection(shop, NOW + (KEEP_DAYS - 1) * 86400).export("shop") is not None
    assert collection(shop, NOW + (KEEP_DAYS + 1) * 86400).export("shop") is None
    assert exported(shop) == []


# --- as an export


def test_export_is_read_back_with_the_same_words_and_cleaned_again_without_a_change() -> None:
    config = parse_project("shop", COLLECTS.encode())
    labelled = " ".join(f"my {name} is {value}" for name, value in PLANTED.items())
    first = answered(1, turns=(Turn("user", f"Hi, {labelled}"),))
    more = follow_up(first, "Thanks. And the other one?", answer="That one left yesterday evening.")
    made = [kept for a in (first, more, answered(3)) if (kept := redacted(a, config))]
    export = read(io.BytesIO(encode_export(made)), Columns(), Roles())
    cleaning = Cleaning()
    rows = [example for batch in cleaning.batches(export) for example in batch.kept]
    assert [row.messages for row in rows] == [kept.messages for kept in made]
    assert len({row.group for row in rows}) == len({row.conversation for row in rows}) == 2


@given(st.text(max_size=40))
def test_everything_collected_falls_into_the_training_split(subject: str) -> None:
    from dropforge.artifacts import digest
    from dropforge.validate.split import split_of

    assert split_of(digest("customer", customer_of(subject).casefold())[:16]) == "train"


def test_words_are_the_same_whatever_their_case_and_white_space() -> None:
    assert words(" It  ships\non Monday. ") == words("it ships on monday.")
    assert words("It ships on Monday.") != words("It ships on Tuesday.")


# --- the monthly tick


def collected(world: World, count: int = 20) -> list[Answered]:
    answers = [answered(number) for number in range(count)]
    deliver(*answers)
    for answer in answers:
        rate(world, answer.id, 1)
    return answers


def trained_on(world: World) -> tuple[str, dict[str, int], set[str]]:
    """The dataset of the newest execution: its hash, its counts, the ids of its answers' rows."""
    state = world.run(world.executions()[-1], until="validate")
    address = state["dataset"]["hash"]
    manifest = world.store.load(dataset_key("shop", address), DatasetManifest)
    texts = set()
    for split in ("train", "validation", "test"):
        data = world.store.read(dataset_key("shop", address, f"{split}.jsonl"))
        texts |= {f"{split}: {line}" for line in data.decode().splitlines()}
    return address, manifest.examples, texts


def finish(world: World) -> None:
    """The newest run ends well."""
    run = world.executions()[-1]["run"]["run_id"]
    world.registry.update("shop", f"run#{run}", {"status": SUCCEEDED})


def test_tick_trains_on_all_files_and_on_what_was_collected(shop: World) -> None:
    answers = collected(shop)
    (run,) = schedule.handler(TICK, None)["started"]
    assert shop.executions()[-1]["run"]["run_id"] == run
    assert shop.executions()[-1]["run"]["key"] == collected_key("shop")
    _, examples, texts = trained_on(shop)
    assert sum(examples.values()) > len(answers) + 100
    for answer in answers:
        assert len([t for t in texts if answer.answer in t and t.startswith("train: ")]) == 1
        assert not [t for t in texts if answer.answer in t and not t.startswith("train: ")]


def test_tick_without_news_gives_the_same_dataset(shop: World) -> None:
    collected(shop)
    schedule.handler(TICK, None)
    first, *_ = trained_on(shop)
    finish(shop)
    schedule.handler({"time": "2027-01-01T06:00:00Z"}, None)
    assert len(shop.executions()) == 3
    again, *_ = trained_on(shop)
    assert again == first


def test_rating_of_last_month_changes_the_next_dataset_and_back_again(shop: World) -> None:
    answers = collected(shop)
    schedule.handler(TICK, None)
    first, *_ = trained_on(shop)
    rate(shop, answers[0].id, -1)
    schedule.handler({"time": "2027-01-01T06:00:00Z"}, None)
    second, _, texts = trained_on(shop)
    assert second != first
    assert not [text for text in texts if answers[0].answer in text]
    rate(shop, answers[0].id, 1)
    schedule.handler({"time": "2027-02-01T06:00:00Z"}, None)
    third, *_ = trained_on(shop)
    assert third == first


def test_what_is_collected_starts_no_run_by_itself(shop: World) -> None:
    collected(shop)
    assert collection(shop).export("shop") is not None
    key = collected_key("shop")
    shop.take(shop.put(key, shop.store.read(key)))
    assert len(shop.executions()) == 1


def test_own_names_of_columns_hold_for_dropped_files_alone(shop: World) -> None:
    shop.put_project(COLLECTS + "columns: {question: question, answer: answer}\n")
    collected(shop)
    schedule.handler(TICK, None)
    state = shop.run(shop.executions()[-1], until="clean")
    assert state["clean"]["kept"] == 20


def test_withdrawn_consent_takes_everything_out_of_the_next_dataset(shop: World) -> None:
    answers = collected(shop)
    schedule.handler(TICK, None)
    trained_on(shop)
    finish(shop)
    shop.put_project(COLLECTS.partition("collect:")[0])
    schedule.handler({"time": "2027-01-01T06:00:00Z"}, None)
    assert exported(shop) == []
    assert shop.executions()[-1]["run"]["key"] == "exports/shop/tickets.csv"
    _, _, texts = trained_on(shop)
    assert not [text for text in texts if answers[0].answer in text]


def test_withdrawn_consent_holds_for_a_run_that_starts_before_the_next_tick(shop: World) -> None:
    """A dropped file starts it, and what was cleaned of the answers is still there."""
    answers = collected(shop)
    schedule.handler(TICK, None)
    _, _, texts = trained_on(shop)
    assert [text for text in texts if answers[0].answer in text]
    finish(shop)
    shop.put_project(COLLECTS.partition("collect:")[0])
    shop.drop(tickets_csv(151))
    shop.run(shop.executions()[-1], until="clean")
    _, _, texts = trained_on(shop)
    assert texts
    assert not [text for text in texts if any(answer.answer in text for answer in answers)]


def test_project_that_fails_keeps_no_other_from_its_run(
    shop: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("atlas", "zinc"):
        shop.put_project(COLLECTS, name=name)
        run = {"run_id": name, "key": f"exports/{name}/t.csv", "version_id": "1", "started_at": 1}
        shop.registry.put(name, f"run#{name}", {**run, "status": SUCCEEDED})
    export = Collection.export

    def fails(self: Collection, project: str) -> Any:
        if project == "atlas":
            raise ValueError(PLANTED["card"])
        return export(self, project)

    monkeypatch.setattr(Collection, "export", fails)
    for _ in range(2):  # Lambda tries it again
        with pytest.raises(BackendError, match="of atlas could") as raised:
            schedule.handler(TICK, None)
    begun = [state["run"]["project"] for state in shop.executions()]
    assert sorted(begun) == ["shop", "shop", "zinc"]
    assert PLANTED["card"] not in f"{raised.value}{caplog.text}"


def test_forgetting_that_was_cut_off_is_done_by_the_next_one(
    shop: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = collected(shop, 5)
    collection(shop).export("shop")
    for step in ("_retire", "_put", "_delete_older"):
        with monkeypatch.context() as patch:

            def breaks(*_: Any, **__: Any) -> None:
                raise ConnectionError

            patch.setattr(Collection, step, breaks)
            with pytest.raises(ConnectionError):
                collection(shop).forget("shop", answer=answers[0].id)
    assert collection(shop).forget("shop", answer=answers[0].id) == 1
    assert answers[0].id not in {*stored(shop), *ids(shop)}
    versions = shop._s3.list_object_versions(Bucket=shop.bucket, Prefix=collected_key("shop"))
    assert len(versions["Versions"]) == 1


def test_parts_are_retired_the_oldest_first(shop: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut off in between, the newest part is still the one that counts, and no older one."""
    for name, at in (("b", 1), ("a", 3), ("c", 2)):
        part = {"key": collected_key("shop"), "sha256": name, "hash": name, "at": at, "first_at": 1}
        shop.registry.put("shop", f"clean#{name}", part)
    retired: list[str] = []
    monkeypatch.setattr(Answers, "retire", lambda _, __, parts: retired.extend(parts))
    collection(shop).export("shop")
    assert retired == ["clean#b", "clean#c", "clean#a"]


def test_answers_are_read_as_they_are_now(shop: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else one that was just forgotten could be exported again."""
    answers, asked = Answers(shop.table), []
    query = answers._table.query

    def remembers(**arguments: Any) -> Any:
        asked.append(arguments["ConsistentRead"])
        return query(**arguments)

    monkeypatch.setattr(answers._table, "query", remembers)
    answers.of("shop")
    assert asked == [True]


def test_forgetting_takes_an_answer_and_what_quotes_it_out_for_good(shop: World) -> None:
    answers = collected(shop)
    more = follow_up(answers[0], "And when does it arrive?", answer="On Tuesday at noon, sure.")
    deliver(more)
    rate(shop, more.id, 1)
    schedule.handler(TICK, None)
    trained_on(shop)
    rate(shop, answers[5].id, -1)
    collection(shop).export("shop")  # another version of the object
    assert collection(shop).forget("shop", answer=answers[0].id) == 2
    assert {answers[0].id, more.id}.isdisjoint(stored(shop))
    assert {answers[0].id, more.id}.isdisjoint(ids(shop))
    versions = shop._s3.list_object_versions(Bucket=shop.bucket, Prefix=collected_key("shop"))
    assert len(versions["Versions"]) == 1
    schedule.handler({"time": "2027-01-01T06:00:00Z"}, None)
    _, _, texts = trained_on(shop)
    assert not [text for text in texts if answers[0].answer in text]
    assert collection(shop).forget("shop", answer=answers[0].id) == 0


def test_forgetting_a_user_takes_all_of_their_answers(shop: World) -> None:
    answers = collected(shop, 5)
    hers = answered(9, user=user_pseudonym("shop", "user 3"))
    deliver(hers)
    assert collection(shop).forget("shop", user="user 3") == 2
    assert set(stored(shop)) == {a.id for a in answers} - {answers[3].id}


# --- the command


@pytest.fixture
def dropforge(dropforge: Callable[..., Result]) -> Callable[..., Result]:
    return partial(dropforge, "collected")


def test_command_tells_what_waits(shop: World, dropforge: Callable[..., Result]) -> None:
    answers = collected(shop, 5)
    rate(shop, answers[0].id, -1)
    deliver(answered(8))
    shown = dropforge()
    assert shown.exit_code == 0, shown.output
    assert shown.output.splitlines()[1].split() == ["shop", "6", "4", "1", "4", "no", "export"]
    assert exported(shop) == []


def test_command_exports_and_starts_a_run_where_something_is_new(
    shop: World, dropforge: Callable[..., Result]
) -> None:
    assert "nothing to train on" in dropforge("--export").output
    collected(shop, 5)
    assert "5 conversations written to s3://" in dropforge("--export").output
    assert shop.executions()[-1]["run"]["key"] == collected_key("shop")
    assert "nothing is new" in dropforge("--export").output
    assert len(shop.executions()) == 2


def test_command_forgets(shop: World, dropforge: Callable[..., Result]) -> None:
    answers = collected(shop, 5)
    assert dropforge("--forget", answers[0].id).output == "1 answer forgotten\n"
    assert dropforge("--forget-user", "user 3").output == "1 answer forgotten\n"
    missing = dropforge("--forget", "chatcmpl-none")
    assert (missing.exit_code, missing.stdout) == (1, "")
    assert "no such answer" in missing.stderr
    assert len(stored(shop)) == 3


def test_examples_of_a_part_are_those_of_the_export(shop: World) -> None:
    """Lineage: the export's version is named by the clean part that it became."""
    collected(shop, 3)
    schedule.handler(TICK, None)
    state = shop.run(shop.executions()[-1], until="clean")
    part = shop.store.read(f"clean/shop/{state['clean']['hash']}/part.jsonl")
    assert len(list(decode_examples(part))) == 3
    manifest = json.loads(shop.store.read(f"clean/shop/{state['clean']['hash']}/manifest.json"))
    assert manifest["source"]["key"] == collected_key("shop")
    assert manifest["source"]["version_id"] == state["run"]["version_id"]
