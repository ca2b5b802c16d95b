from __future__ import annotations

import copy
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from chat_front import COMPLETION, UPSTREAM, ask, invoked, served, shop, upstream_requests
from chat_options import serve
from http_stub import PATIENCE, FakeTable, Respond, Stub, StubHandler, hangs, replies, resets

from dropforge.serve.arms import rated
from dropforge.serve.ensemble import alike, ballot, chosen, shuffled, summed_usage, vote
from lambdas.chat import ensemble as ensembles
from tests.support.attacks import ATTACKS

pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])

JUDGE = {"backend": "openai", "model": "judge-1"}
MODELS = ["champion", "previous", "base"]
DEADLINE_S = 20


def said(text: str | None, finish: str = "stop", **message: Any) -> dict[str, Any]:
    whole: dict[str, Any] = copy.deepcopy(COMPLETION)
    whole["choices"][0]["message"] = {"role": "assistant", "content": text, **message}
    whole["choices"][0]["finish_reason"] = finish
    return whole


def called(arguments: str, name: str = "find_order") -> dict[str, Any]:
    function = {"name": name, "arguments": arguments}
    return said(None, "tool_calls", tool_calls=[{"id": "c1", "function": function}])


@pytest.mark.parametrize(
    ("answers", "place", "agreed"),
    [
        ([said("Monday."), said("Friday."), said(" friday")], 1, 2),
        ([said("Monday."), said("Tuesday."), said("Friday.")], 0, 1),  # a tie: the first
        ([said("Ab"), said("ab"), said("cd"), said("CD")], 0, 2),
        ([said("", "stop"), said("Friday."), said("Sunday", "length")], 1, 1),
        ([said(None), said("")], 0, 2),  # nothing whole: still one of them
        ([called('{"n": 1}'), called('{"n": 2}'), called('{ "n":2 }')], 1, 2),
        ([called('{"n": 1}'), called('{"n": 12}'), called('{"n": 13}')], 0, 1),
        ([said("I look."), called("{}"), called("{}", "other")], 0, 1),
        ([called("not json"), said("not json")], 0, 1),
        ([said("ﬁne"), said("x"), said("fine")], 0, 2),  # one letter, a ligature
    ],
)
def test_most_answers_win(answers: list[dict[str, Any]], place: int, agreed: int) -> None:
    assert vote(answers) == (place, agreed)


def test_without_a_majority_the_answer_most_like_the_others_wins() -> None:
    answers = [
        said("Your order LU-4711 was lost, and we cannot say where it is."),
        said("Your order LU-4711 ships on 3 May and arrives within 2 days."),
        said("Order LU-4711 will ship on 3 May; it arrives within 2 days."),
        said("The order LU-4711 ships on 8 May and arrives within 9 days."),
    ]
    assert vote(answers).place in (1, 2)
    assert vote(answers[::-1]).place in (1, 2)


def test_json_answers_are_compared_by_value_and_broken_ones_have_no_vote() -> None:
    answers = [said('{"a": 1, "b": [2]}'), said("{"), said('{"b":[2],"a":1}'), said("{")]
    assert vote(answers, as_json=True) == (0, 2)
    assert vote([said("{"), said('{"a": 1}')], as_json=True) == (1, 1)


@pytest.mark.parametrize(
    ("one", "other", "low", "high"),
    [
        ("It ships on Monday.", "It ships on Monday.", 1, 1),
        ("It costs 12 euros.", "It costs 21 euros.", 0, 0),
        ("It costs 12 euros.", "It costs twelve euros.", 0, 0),
        ("Das Paket kommt morgen an.", "Das Paket kommt morgen.", 0.7, 1),
        ("包裹明天送达。", "包裹明天到。", 0.3, 1),
        ("", "", 1, 1),
        ("yes", "", 0, 0),
    ],
)
def test_texts_are_alike_by_letters_and_facts(
    one: str, other: str, low: float, high: float
) -> None:
    assert low <= alike(one, other) == alike(other, one) <= high


@pytest.mark.parametrize(
    ("reply", "place"),
    [
        ("B", 1),
        (" b.\n", 1),
        ("**C**", 2),
        ("Answer: A", 0),
        ("The best answer is B", None),
        ("best answer: B", 1),
        ("answer_C", 2),
        ("D", None),
        ("A or B", None),
        ("", None),
        ("A" * 500, None),
        ("A is better than B", None),
        ('{"winner": "A"}', None),
    ],
)
def test_only_one_letter_of_those_offered_is_a_choice(reply: str, place: int | None) -> None:
    assert chosen(reply, 3) == place


def test_order_of_the_ballot_hangs_on_the_request() -> None:
    orders = {tuple(shuffled(f"r{i}", 3)) for i in range(100)}
    assert len(orders) == 6
    assert shuffled("r1", 5) == shuffled("r1", 5)
    assert sorted(shuffled("r1", 5)) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_no_answer_gets_out_of_its_marks(attack: Callable[[str], str]) -> None:
    nonce = "5f0c9a1277e4b3d8"
    honest = "It ships on Monday."
    system, asked = ballot([{"role": "user", "content": "When?"}], [honest, attack(honest)], nonce)
    assert nonce not in system["content"]
    text = asked["content"]
    fence = re.compile(rf'<(\w+) nonce="{nonce}">\n(.*?)\n</\1 nonce="{nonce}">', re.DOTALL)
    assert [name for name, _ in fence.findall(text)] == ["question", "answer_A", "answer_B"]
    assert fence.sub("", text).strip() == "Which answer is the best? Reply with one letter of A, B."
    inside = fence.findall(text)[2][1]
    assert not re.search("[\u200b-\u200f\u202a-\u202e\u2060-\u206f\U000e0000-\U000e007f]", inside)


def test_usage_is_that_of_all_answers() -> None:
    spent = [said("a"), {**said("b"), "usage": {"prompt_tokens": 30, "completion_tokens": 9}}]
    assert summed_usage(spent) == {
        "prompt_tokens": 50,
        "completion_tokens": 14,
        "total_tokens": 64,
    }
    assert summed_usage(spent, unknown=1) == {
        "prompt_tokens": 80,
        "completion_tokens": 23,
        "total_tokens": 103,
    }
    assert summed_usage([{"choices": []}]) is None


# --- through the handler ------------------------------------------------------------------------


@pytest.fixture
def rows() -> FakeTable:
    rows = shop()
    rows.items["project#shop", "champion"]["previous"] = {"S": "v1"}
    serve(rows, ensemble={"models": MODELS, "n": 3, "by": "vote"})
    return rows


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch, rows: FakeTable) -> Iterator[Stub]:
    with served(monkeypatch, rows) as server:
        server.routes[UPSTREAM] = by_model(
            {"ft:shop:1": said("Friday."), "smollm2": said("friday")}
        )
        yield server


def give_up_after(seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """How long most answers wait for the others, who have time enough to be waited for."""
    monkeypatch.setenv("DROPFORGE_DEADLINE_SECONDS", str(DEADLINE_S))
    monkeypatch.setattr(ensembles, "PATIENCE_SECONDS", seconds)


def by_model(answers: dict[str, dict[str, Any] | Respond]) -> Respond:
    """Answers each model's name in its way, and the others with COMPLETION."""

    def respond(handler: StubHandler) -> None:
        found = answers.get(handler.request_seen.json()["model"], COMPLETION)
        (found if callable(found) else replies(200, found))(handler)

    return respond


def metrics(printed: str) -> dict[str, Any]:
    line: dict[str, Any] = json.loads(printed.strip().splitlines()[-1])
    return {name: value for name, value in line.items() if name.startswith("Ensemble")}


@pytest.mark.usefixtures("stub")
def test_the_majoritys_answer_is_given_under_its_versions_name(
    capsys: pytest.CaptureFixture[str],
) -> None:
    result = invoked(body=ask())
    assert result.status == 200
    body = result.json()
    assert body["choices"][0]["message"]["content"] == "Friday."
    assert body["model"] == result.headers["x-dropforge-model"] == "shop/v1"
    assert result.headers["x-dropforge-arm"] == "ensemble"
    assert rated(body["id"]) == ("v1", "ensemble")
    assert body["usage"] == {"prompt_tokens": 60, "completion_tokens": 15, "total_tokens": 75}
    assert metrics(capsys.readouterr().out) == {
        "EnsembleAsked": 3,
        "EnsembleAnswered": 3,
        "EnsembleAgreed": 2,
    }


@pytest.mark.usefixtures("stub")
def test_a_stream_is_the_given_answer() -> None:
    result = invoked(body=ask(stream=True, stream_options={"include_usage": True}))
    chunks = [json.loads(line[6:]) for line in result.text.split("\n\n")[:-2]]
    texts = [c["choices"][0]["delta"].get("content") or "" for c in chunks if c["choices"]]
    assert "".join(texts) == "Friday."
    assert chunks[-1]["usage"]["total_tokens"] == 75
    assert {chunk["model"] for chunk in chunks} == {"shop/v1"}


def test_all_are_asked_at_once_over_connections_that_are_kept(stub: Stub) -> None:
    together = threading.Barrier(3)

    def meets_the_others(handler: StubHandler) -> None:
        together.wait(10)
        handler.reply(200, COMPLETION)

    stub.routes[UPSTREAM] = meets_the_others
    for _ in range(3):
        assert invoked(body=ask()).status == 200
    assert len(upstream_requests(stub)) == 9
    assert stub.connections <= 3 + 1 + 3  # models, the registry, and the key, read by each


@pytest.mark.parametrize("broken", [hangs, resets, replies(500, {}), replies(429, {})])
def test_those_that_have_answered_count(
    stub: Stub, broken: Respond, monkeypatch: pytest.MonkeyPatch
) -> None:
    give_up_after(0.05 if broken is hangs else DEADLINE_S, monkeypatch)
    stub.routes[UPSTREAM] = by_model({"ft:shop:2": broken, "ft:shop:1": said("Friday.")})
    result = invoked(body=ask())
    assert (result.status, result.headers["x-dropforge-model"]) == (200, "shop/v1")
    tokens = 75 if broken is hangs else 50  # who was given up may have written all the same
    assert result.json()["usage"]["total_tokens"] == tokens


def test_a_connection_that_was_given_up_is_not_used_by_two(
    stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    give_up_after(0.05, monkeypatch)
    stub.routes[UPSTREAM] = by_model({"ft:shop:2": hangs})
    assert invoked(body=ask()).status == 200
    stub.routes[UPSTREAM] = replies(200, COMPLETION)
    for _ in range(3):
        assert invoked(body=ask()).json()["usage"]["total_tokens"] == 75


@pytest.mark.parametrize(("broken", "status"), [(replies(500, {}), 502), (hangs, 504)])
def test_no_answer_at_all_is_a_typed_error_within_the_deadline(
    stub: Stub, broken: Respond, status: int
) -> None:
    stub.routes[UPSTREAM] = broken
    began = time.monotonic()
    assert invoked(body=ask()).status == status
    assert time.monotonic() - began < PATIENCE


def test_a_request_that_the_models_refuse_is_refused(stub: Stub) -> None:
    stub.routes[UPSTREAM] = replies(400, {"error": {"message": "No such tool.", "code": "bad"}})
    result = invoked(body=ask())
    assert (result.status, result.error["message"]) == (400, "No such tool.")
    assert len(upstream_requests(stub)) == 3


@pytest.mark.parametrize(
    ("fields", "seeds"),
    [({}, [None, None, None]), ({"seed": 7}, [7, 8, 9]), ({"temperature": 0}, [None])],
)
def test_one_model_is_not_asked_for_the_same_twice(
    stub: Stub, rows: FakeTable, fields: dict[str, Any], seeds: list[int | None]
) -> None:
    serve(rows, ensemble={"models": ["champion", "v2", "v9", "bank/v1"], "n": 3, "by": "vote"})
    assert invoked(body=ask(**fields)).status == 200
    requests = [request.json() for request in upstream_requests(stub)]
    assert {request["model"] for request in requests} == {"ft:shop:2"}
    assert {r.get("seed") for r in requests} == set(seeds)
    assert len(requests) == len(seeds)
    assert all(request.get("temperature") == fields.get("temperature") for request in requests)


@pytest.mark.parametrize("fields", [{"model": "shop/champion"}, {"model": "shop/v1"}, {"n": 2}])
def test_named_models_and_several_choices_get_one_models_answer(
    stub: Stub, fields: dict[str, Any]
) -> None:
    result = invoked(body=ask(**fields))
    assert result.headers["x-dropforge-arm"] != "ensemble"
    assert len(upstream_requests(stub)) == 1


def test_while_a_canary_runs_each_arm_answers_alone(stub: Stub, rows: FakeTable) -> None:
    about = {"version": "v1", "backend": "openai", "model_id": "ft:shop:1", "share": "0"}
    kinds = {"id": {"N": "4"}, "share": {"N": "0"}}
    rows.items["project#shop", "champion"]["canary"] = {
        "M": {**{name: {"S": value} for name, value in about.items()}, **kinds}
    }
    assert invoked(body=ask()).headers["x-dropforge-arm"] == "champion"
    assert len(upstream_requests(stub)) == 1
    assert ("project#shop", "arm#000004#00#champion") in rows.items


def judge_of(reply: Callable[[str], str], answers: dict[str, Any]) -> Respond:
    """Models that answer as told, and a judge that replies to the text of its question."""

    def judge(handler: StubHandler) -> None:
        text = handler.request_seen.json()["messages"][-1]["content"]
        handler.reply(200, said(reply(text)))

    return by_model({**answers, "judge-1": judge})


def letter_of(answer: str) -> Callable[[str], str]:
    """A judge that names the answer with this text in it."""

    def reply(text: str) -> str:
        found = re.search(rf'<answer_(\w) nonce="\w+">\n[^\n]*{answer}', text)
        return found[1] if found else "?"

    return reply


def by_judge(rows: FakeTable) -> None:
    serve(rows, ensemble={"models": MODELS, "n": 3, "by": "judge", "judge": JUDGE})


def test_a_judge_chooses_what_no_majority_says(stub: Stub, rows: FakeTable) -> None:
    by_judge(rows)
    answers = {"ft:shop:1": said("Friday."), "smollm2": said("On Sunday.")}
    stub.routes[UPSTREAM] = judge_of(letter_of("Sunday"), answers)
    opened = []
    for number in range(6):  # whatever the order is
        event: dict[str, Any] = {"requestContext": context(f"request-{number}")}
        result = invoked(body=ask(), **event)
        assert result.headers["x-dropforge-model"] == "shop/base"
        opened.append(stub.connections)
    assert result.json()["usage"]["total_tokens"] == 100
    assert len(set(opened)) == 1, "a judge's connection is kept like any other"


def context(request_id: str) -> dict[str, Any]:
    about = {"projects": "shop", "token_name": "web", "token_id": "t1"}
    return {"requestId": request_id, "authorizer": about}


@pytest.mark.parametrize("reply", ["I cannot decide.", "E", ""])
def test_a_judge_that_cannot_be_read_is_asked_again_and_then_the_vote_counts(
    stub: Stub, rows: FakeTable, reply: str, capsys: pytest.CaptureFixture[str]
) -> None:
    by_judge(rows)
    answers = {"ft:shop:1": said("Friday."), "smollm2": said("friday!?")}
    stub.routes[UPSTREAM] = judge_of(lambda text: reply, answers)
    assert invoked(body=ask()).headers["x-dropforge-model"] == "shop/v1"
    asked = [r.json() for r in upstream_requests(stub) if r.json()["model"] == "judge-1"]
    assert len(asked) == 2
    nonces = {re.findall(r'nonce="(\w+)"', r["messages"][-1]["content"])[0] for r in asked}
    assert len(nonces) == 2
    assert metrics(capsys.readouterr().out)["EnsembleJudgeFailed"] == 1


@pytest.mark.parametrize("broken", [hangs, resets, replies(500, {}), replies(400, {})])
def test_without_its_judge_an_ensemble_votes(stub: Stub, rows: FakeTable, broken: Respond) -> None:
    by_judge(rows)
    stub.routes[UPSTREAM] = by_model({"smollm2": said("Sunday."), "judge-1": broken})
    result = invoked(body=ask())
    assert (result.status, result.headers["x-dropforge-model"]) == (200, "shop/v2")


def test_a_judge_is_not_asked_where_all_agree(stub: Stub, rows: FakeTable) -> None:
    by_judge(rows)
    stub.routes[UPSTREAM] = replies(200, COMPLETION)
    assert invoked(body=ask()).headers["x-dropforge-model"] == "shop/v2"
    assert len(upstream_requests(stub)) == 3
