"""The chat page as a person uses it, served by the chat function below its stage."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from chat_front import COMPLETION, UPSTREAM, served, shop
from http_stub import Respond, Stub, StubHandler, replies

from tests.support.browser import Page
from tests.support.looks import SCHEMES, WIDTHS, click, dress, faint_texts, overhang, visible
from tests.support.stage import Stage, running_stage

TOKEN = "df-shop-token"
SCRIPT = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"
PIECES = ["It ", "ships ", "on ", "Monday."]


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stub]:
    with served(monkeypatch, shop()) as server:
        server.routes[UPSTREAM] = says(PIECES)
        monkeypatch.setenv("DROPFORGE_DEADLINE_SECONDS", "20")
        yield server


@pytest.fixture
def api(stub: Stub) -> Iterator[Stage]:
    with running_stage({TOKEN: "shop"}) as server:
        yield server


def says(pieces: list[str], *, until: Callable[[], bool] = lambda: True) -> Respond:
    """A model that names itself first; its last piece waits `until` something is true."""

    def respond(handler: StubHandler) -> None:
        request = handler.request_seen.json()
        texts = [f"{request['model']}: ", *pieces]
        if not request.get("stream"):
            [choice] = COMPLETION["choices"]
            message = {**choice["message"], "content": "".join(texts)}
            handler.reply(200, {**COMPLETION, "choices": [{**choice, "message": message}]})
            return
        handler.send_response(200)
        handler.send_header("Content-Type", "text/event-stream")
        handler.send_header("Connection", "close")
        handler.end_headers()
        handler.close_connection = True
        for number, text in enumerate(texts):
            while number == len(texts) - 1 and not until():
                time.sleep(0.01)
            _event(handler, {"choices": [_choice({"content": text})]})
        _event(handler, {"choices": [_choice({}, "stop")]})
        _event(handler, {"choices": [], "usage": COMPLETION["usage"]})
        handler.wfile.write(b"data: [DONE]\n\n")

    return respond


def _choice(delta: dict[str, str], reason: str | None = None) -> dict[str, Any]:
    return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}


def _event(handler: StubHandler, chunk: dict[str, Any]) -> None:
    frame = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    handler.wfile.write(b"data: " + json.dumps({**frame, **chunk}).encode() + b"\n\n")
    handler.wfile.flush()


def go(page: Page, url: str) -> None:
    page.call("Page.enable")
    page.call("Log.enable")
    page.call("Page.navigate", url=url)
    until(page, "document.readyState === 'complete' && typeof state === 'object'")


def until(page: Page, condition: str) -> None:
    deadline = time.monotonic() + 60
    while not page.ask(f"Boolean({condition})"):
        assert time.monotonic() < deadline, condition
        time.sleep(0.02)


def write(page: Page, text: str) -> None:
    """What a person types where the focus is."""
    page.call("Input.insertText", text=text)


def press(page: Page, key: str, modifiers: int = 0) -> None:
    code = {"Enter": 13, "Escape": 27, "Tab": 9}[key]
    about = {"key": key, "code": key, "windowsVirtualKeyCode": code, "modifiers": modifiers}
    if key == "Enter":
        about["text"] = "\r"
    page.call("Input.dispatchKeyEvent", type="keyDown", **about)
    page.call("Input.dispatchKeyEvent", type="keyUp", **about)


def enter(page: Page, url: str, token: str = TOKEN) -> None:
    """Opens the page and gives it the token, by keys alone."""
    go(page, url)
    write(page, token)
    press(page, "Enter")
    until(page, "!find('room').hidden || !find('wrong').hidden")


def ask(page: Page, question: str, turns: int = 1) -> None:
    write(page, question)
    press(page, "Enter")
    settled(page, turns)


def settled(page: Page, turns: int = 1) -> None:
    until(page, f"!state.busy && document.querySelectorAll('.turn').length === {turns}")


def texts(page: Page, selector: str) -> Any:
    return page.ask(f"[...document.querySelectorAll({selector!r})].map(e => e.innerText)")


def facts(page: Page, answer: int = 0) -> dict[str, str]:
    found: dict[str, str] = page.ask(
        f"Object.fromEntries([...document.querySelectorAll('.answer')[{answer}]"
        ".querySelectorAll('.facts div')].map(d => [...d.children].map(e => e.textContent)))"
    )
    return found


@pytest.mark.parametrize("slash", ["", "/"])
def test_person_signs_in_and_asks_by_keys_alone(page: Page, api: Stage, slash: str) -> None:
    enter(page, api.url + slash)
    ask(page, "When does it ship?")
    assert texts(page, ".asked") == ["When does it ship?"]
    assert texts(page, ".answer p.text") == ["ft:shop:2: It ships on Monday."]
    told = facts(page)
    assert told["version"] == "v2"
    assert told["arm"] == "champion"
    assert told["cache"] in ("off", "miss")
    assert told["tokens"] == "5"
    assert all(told[name].endswith(("ms", "s")) for name in ("first byte", "total"))
    assert page.ask("document.activeElement.id") == "question"
    assert page.complaints == []
    assert [line for line in api.seen if "favicon" not in line] == [
        f"GET /prod{slash}",
        "GET /prod/v1/models",
        "POST /prod/v1/chat/completions",
    ]


def test_token_stays_in_the_tab_and_out_of_every_address(page: Page, api: Stage) -> None:
    enter(page, api.url)
    ask(page, "Hello?")
    kept = page.ask("Object.entries(sessionStorage).filter(([, v]) => v.includes('df-')).flat()")
    assert kept == ["dropforge.token", TOKEN]
    assert page.ask("[localStorage.length, document.cookie, location.href]") == [0, "", api.url]
    assert page.ask("find('token').value") == ""
    assert not any(TOKEN in line for line in api.seen)
    click(page, "#leave")
    until(page, "!find('gate').hidden")
    assert page.ask("sessionStorage.length") == 0


def test_reload_keeps_token_and_conversation_of_the_tab(page: Page, api: Stage) -> None:
    enter(page, api.url)
    ask(page, "Hello?")
    go(page, f"{api.url}/")
    until(page, "!find('room').hidden")
    assert texts(page, ".asked") == ["Hello?"]
    assert texts(page, ".answer p.text") == ["ft:shop:2: It ships on Monday."]


def test_picker_offers_what_v1_models_lists(page: Page, api: Stage) -> None:
    enter(page, api.url)
    names = page.ask("[...find('model-0').options].map(o => o.value)")
    assert names == ["shop/champion", "shop/base", "shop/v1", "shop/v2"]
    assert page.ask("find('model-0').value") == "shop/champion"
    page.ask("find('model-0').value = 'shop/v1'")
    ask(page, "Hello?")
    assert texts(page, ".answer p.text") == ["ft:shop:1: It ships on Monday."]
    assert facts(page)["arm"] == "pinned"


def test_conversation_so_far_goes_with_the_next_question(
    page: Page, api: Stage, stub: Stub
) -> None:
    enter(page, api.url)
    ask(page, "When?")
    ask(page, "Why?", turns=2)
    [*_, last] = [request for request in stub.seen if request.path == UPSTREAM]
    assert [message["content"] for message in last.json()["messages"][1:]] == [
        "When?",
        "ft:shop:2: It ships on Monday.",
        "Why?",
    ]


def test_champion_and_base_answer_the_same_question_side_by_side(
    page: Page, api: Stage, stub: Stub
) -> None:
    page.resize(1200)
    enter(page, api.url)
    click(page, "#compare")
    page.ask("find('question').focus()")
    ask(page, "When?")
    assert texts(page, ".answer .name") == ["shop/champion", "shop/base"]
    assert texts(page, ".answer p.text") == [f"{m}: It ships on Monday." for m in MODELS]
    assert [facts(page, n)["arm"] for n in (0, 1)] == ["champion", "base"]
    tops = page.ask(
        "[...document.querySelectorAll('.answer')].map(e => e.getBoundingClientRect().top)"
    )
    assert tops[0] == tops[1]
    ask(page, "Why?", turns=2)
    sent = [request.json() for request in stub.seen if request.path == UPSTREAM][2:]
    for request in sent:
        assert request["messages"][2]["content"] == f"{request['model']}: It ships on Monday."


MODELS = ("ft:shop:2", "smollm2")


def test_answer_shows_while_it_is_written_and_can_be_stopped(
    page: Page, api: Stage, stub: Stub
) -> None:
    over: list[bool] = []
    stub.routes[UPSTREAM] = says(PIECES, until=lambda: bool(over))
    enter(page, api.url)
    write(page, "When?")
    press(page, "Enter")
    until(page, "document.querySelector('.answer p.text')?.innerText.includes('ships on')")
    assert visible(page, "#stop") == 1
    assert page.ask("document.querySelector('.answer').getAttribute('aria-busy')") == "true"
    press(page, "Escape")
    settled(page)
    over.append(True)
    assert "stopped" in texts(page, ".facts")[0]
    assert texts(page, ".answer p.text") == ["ft:shop:2: It ships on "]
    assert visible(page, "#send") == 1


def test_rating_is_sent_once_and_shown(page: Page, api: Stage, stub: Stub) -> None:
    enter(page, api.url)
    ask(page, "When?")
    click(page, ".answer .up")
    until(page, "find('said').textContent === 'Rated as good.'")
    buttons = "[...document.querySelectorAll('.acts [aria-pressed]')]"
    pressed = page.ask(f"{buttons}.map(b => [b.ariaPressed, b.disabled])")
    assert pressed == [["true", True], ["false", True]]
    rows: Any = stub.routes["/"]
    [item] = [item for (_, sk), item in rows.items.items() if sk.startswith("feedback#")]
    assert (item["rating"], item["arm"]) == ({"N": "1"}, {"S": "champion"})


def test_texts_are_shown_as_they_are_and_never_run(page: Page, api: Stage, stub: Stub) -> None:
    stub.routes[UPSTREAM] = says([SCRIPT, "\n  two"])
    enter(page, api.url)
    ask(page, SCRIPT)
    assert texts(page, ".asked") == [SCRIPT]
    assert texts(page, ".answer p.text") == [f"ft:shop:2: {SCRIPT}\n  two"]
    assert page.ask("[document.title, document.querySelectorAll('main img').length]") == [
        "Dropforge",
        0,
    ]
    assert page.complaints == []


def test_wrong_token_is_told_and_asked_for_again(page: Page, api: Stage) -> None:
    enter(page, api.url, token="df-wrong")
    assert "wrong, revoked or has expired" in texts(page, "#wrong")[0]
    assert page.ask("[find('room').hidden, sessionStorage.length]") == [True, 0]
    write(page, TOKEN)  # the focus is in the field, and what was there is gone or replaced
    assert page.ask("document.activeElement.id") == "token"


def test_token_revoked_during_a_chat_is_told_and_the_conversation_kept(
    page: Page, api: Stage
) -> None:
    enter(page, api.url)
    ask(page, "When?")
    api.tokens.clear()
    write(page, "Why?")
    press(page, "Enter")
    until(page, "!find('gate').hidden")
    assert "revoked" in texts(page, "#wrong")[0]
    api.tokens["df-another"] = "shop"
    write(page, "df-another")
    press(page, "Enter")
    until(page, "!find('room').hidden")
    assert texts(page, ".asked") == ["When?", "Why?"]


@pytest.mark.parametrize(
    ("fault", "head"),
    [
        (replies(500, b"no"), "The model could not answer."),
        (replies(404, b'{"error": {"message": "gone"}}'), "The model could not answer."),
        (replies(400, b'{"error": {"message": "too long"}}'), "Refused."),
    ],
    ids=["500", "404", "400"],
)
def test_failure_is_told_and_can_be_tried_again(
    page: Page, api: Stage, stub: Stub, fault: Respond, head: str
) -> None:
    stub.routes[UPSTREAM] = fault
    enter(page, api.url)
    page.ask("find('model-0').value = 'shop/v2'")
    ask(page, "When?")
    assert texts(page, ".trouble b") == [head]
    assert texts(page, ".trouble .small")[0].startswith("Request ")
    stub.routes[UPSTREAM] = says(PIECES)
    click(page, ".again")
    until(page, "!state.busy && !document.querySelector('.trouble').checkVisibility()")
    assert texts(page, ".answer p.text") == ["ft:shop:2: It ships on Monday."]


def test_too_many_requests_says_when_to_try_again(page: Page, api: Stage, stub: Stub) -> None:
    stub.routes[UPSTREAM] = replies(429, b"", Retry_After="600")
    enter(page, api.url)
    page.ask("find('model-0').value = 'shop/v2'")
    ask(page, "When?")
    assert texts(page, ".trouble b") == ["Too many requests."]
    assert texts(page, ".again")[0].startswith("Try again in ")
    assert page.ask("document.querySelector('.again').disabled")
    page.ask("Date.now = (now => () => now() + 600e3)(Date.now)")
    until(page, "!document.querySelector('.again').disabled")
    assert texts(page, ".again") == ["Try again"]


def test_api_that_cannot_be_reached_is_told(page: Page, api: Stage) -> None:
    enter(page, api.url)
    page.call("Network.enable")
    offline = {"latency": 0, "downloadThroughput": 0, "uploadThroughput": 0}
    page.call("Network.emulateNetworkConditions", offline=True, **offline)
    ask(page, "When?")
    assert texts(page, ".trouble b") == ["The API cannot be reached."]


def test_conversations_of_the_tab_are_listed_and_opened_again(page: Page, api: Stage) -> None:
    page.resize(1200)
    enter(page, api.url)
    ask(page, "First?")
    click(page, "#fresh")
    ask(page, "Second?")
    assert texts(page, "#past button") == ["Second?", "First?"]
    click(page, "#past li:last-child button")
    assert texts(page, ".asked") == ["First?"]


def test_every_control_has_a_name_and_answers_are_announced(page: Page, api: Stage) -> None:
    enter(page, api.url)
    ask(page, "When?")
    assert page.ask("find('said').textContent").endswith("answered: ft:shop:2: It ships on Monday.")
    tree = page.call("Accessibility.getFullAXTree")["nodes"]
    wanted = ("button", "combobox", "textbox", "switch")
    nodes = [n for n in tree if n.get("role", {}).get("value") in wanted and not n["ignored"]]
    names = [node.get("name", {}).get("value", "") for node in nodes]
    assert len(names) >= 8
    assert all(names), nodes
    assert len(set(names)) == len(names)


def open_room(page: Page, url: str, stub: Stub) -> None:
    """Two answers of some length beside each other, one of them rated, and one that failed."""
    long = [f"{part} " for part in ("The parcel ships on Monday; tracking follows. " * 4).split()]
    stub.routes[UPSTREAM] = says([*long, "w" * 90])
    enter(page, url)
    page.ask("find('compare').click()")
    page.ask("find('question').focus()")
    ask(page, "Where is my parcel, and may I send it back? " + "x" * 60)
    page.ask("document.querySelector('.up').click()")
    stub.routes[UPSTREAM] = replies(500, b"no")
    ask(page, "And then?", turns=2)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_page_is_readable_and_fits_the_window(
    page: Page, api: Stage, stub: Stub, scheme: str, width: int
) -> None:
    dress(page, scheme)
    page.resize(width, 800)
    go(page, api.url)
    assert faint_texts(page) == []
    assert overhang(page) <= 0
    open_room(page, api.url, stub)
    assert faint_texts(page) == []
    assert overhang(page) <= 0
    boxes = page.ask(
        "['question', 'send'].map(id => find(id).getBoundingClientRect())"
        ".map(b => [b.top, b.bottom, b.height])"
    )
    assert all(top >= 0 and bottom <= 800 and height >= 40 for top, bottom, height in boxes)
