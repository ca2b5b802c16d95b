"""`dropforge label`: in the registry, in the terminal, and the page's server."""

from __future__ import annotations

import importlib
import io
import os
import pty
import signal
import socket
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

from dropforge.artifacts import dataset_key
from dropforge.backends.labels import Labels
from dropforge.backends.registry import Registry
from dropforge.calibration import Calibration, Label
from dropforge.chat import ChatExample, Message, encode_lines
from dropforge.cli import app
from dropforge.cli.deployment import Deployment
from dropforge.cli.label import _key, draw, label_in_terminal
from dropforge.cli.label.page import serve
from dropforge.cli.label.session import Session, Shown, begin, visible
from dropforge.errors import NoDataError
from dropforge.judge import Outcome
from tests.support.labels import JUDGE, SECOND, Served, by, give_samples, opened, sample
from tests.support.world import PROJECT, World

TRICKY = "<script>x</script> [bold]x[/bold] \x1b[31mred\x07 \u202egnp.exe :smile:"


@pytest.fixture
def labels(world: World) -> Labels:
    give_samples(world, [sample(n) for n in range(25)])
    return Labels(world.store, world.registry)


def session_of(labels: Labels, who: str = "ann", limit: int = 5) -> Session:
    return begin(labels, "shop", "e1", who, limit)[0]


def said(labels: Labels) -> dict[tuple[str, str], str | None]:
    return {(label.pair, label.who): label.outcome for label in labels.labels("shop")}


def side_of(session: Session, text: str) -> str:
    """The side on which the current pair's answer begins so."""
    pair = session.current
    assert pair is not None
    return "left" if pair.left.startswith(text) else "right"


def label_all(session: Session, text: str = "good") -> None:
    """Prefer the answers that begin so: the challenger's, unless told otherwise."""
    while session.current:
        session.choose("left" if side_of(session, text) == "left" else "right")


# --- The registry


def test_samples_are_those_of_all_batches(labels: Labels) -> None:
    assert [s.id for s in labels.samples("shop", "e1")] == [f"t{n}" for n in range(25)]
    assert len(labels.samples("shop")) == 25


def test_without_a_name_the_newest_evaluation_is_labelled(world: World, labels: Labels) -> None:
    give_samples(world, [sample(99)], "e0", version="v2", at=9.0)
    assert [s.id for s in labels.samples("shop")] == ["t99"]


def test_nothing_to_label_says_why(world: World) -> None:
    labels = Labels(world.store, world.registry)
    with pytest.raises(NoDataError, match="no evaluation yet"):
        labels.samples("shop")
    world.registry.put("shop", "evaluation#e1", {"hash": "e1", "version": "v1", "at": 1.0})
    with pytest.raises(NoDataError, match="gone"):
        labels.samples("shop")


def test_label_comes_back_as_it_was_saved(labels: Labels) -> None:
    given = Label("p", "e1", "t1", "base", "win", "ann", 1700000000.25, 7.5)
    labels.save("shop", given)
    labels.save("shop", Label("p", "e1", "t1", "base", "tie", "bob", 1700000001.0))
    assert given in labels.labels("shop")
    assert len(labels.labels("shop")) == 2


def test_agreement_is_kept_for_every_judge_over_all_evaluations(
    world: World, labels: Labels
) -> None:
    second = [sample(n, base=by(**{SECOND: Outcome.LOSS})) for n in range(5, 35)]
    give_samples(world, second, "e2", version="v2", at=2.0)
    label_all(session_of(labels, limit=25))
    found = labels.recompute("shop")
    assert (found[JUDGE].labels, found[JUDGE].agreement.point) == (25, 1.0)
    assert (found[SECOND].labels, found[SECOND].agreement.point) == (20, 0.0)
    assert labels.agreement("shop", JUDGE) == found[JUDGE]
    assert labels.agreement("shop", SECOND) == found[SECOND]


def test_unlabelled_judge_has_no_agreement(labels: Labels) -> None:
    assert labels.agreement("shop", JUDGE) is None
    assert labels.recompute("shop") == {}


def test_agreement_goes_when_the_labels_are_taken_back(labels: Labels) -> None:
    session = session_of(labels)
    session.choose("tie")
    assert labels.recompute("shop")[JUDGE].labels == 1
    session.undo()
    assert labels.recompute("shop") == {}
    assert labels.agreement("shop", JUDGE) is None


def test_evaluation_whose_batches_are_gone_does_not_matter(world: World, labels: Labels) -> None:
    world.registry.put("shop", "evaluation#e9", {"hash": "e9", "version": "v9", "at": 9.0})
    session_of(labels).choose("tie")
    assert labels.recompute("shop")[JUDGE].labels == 1


def test_labels_count_for_a_judge_that_has_just_been_asked(labels: Labels) -> None:
    label_all(session_of(labels, limit=25))
    just_now = [sample(n, base=by(**{SECOND: Outcome.WIN})) for n in range(10, 30)]
    assert labels.recompute("shop", also=just_now)[SECOND].labels == 15
    kept = labels.agreement("shop", SECOND)
    assert kept is not None
    assert kept.agreement.point == 1.0


def test_label_saved_while_agreement_is_being_computed_is_taken_in(labels: Labels) -> None:
    class Overtaken(Labels):
        """Somebody else saves a label, and writes what it makes, before this one is written."""

        def _keep(self, project: str, found: dict[str, Calibration]) -> None:
            if others:
                others.pop().choose("tie")
                labels.recompute(project)
            super()._keep(project, found)

    session_of(labels).choose("tie")
    others = [session_of(labels, "bob")]
    late = Overtaken(labels._store, labels._registry)
    assert late.recompute("shop")[JUDGE].labels == 2
    assert labels.agreement("shop", JUDGE) == late.recompute("shop")[JUDGE]


def test_two_people_at_once_lose_nothing(labels: Labels) -> None:
    def work(who: str) -> None:
        label_all(session_of(labels, who, 12))
        labels.recompute("shop")

    threads = [threading.Thread(target=work, args=(who,)) for who in ("ann", "bob")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(said(labels)) == 24
    pairs = {pair for pair, _ in said(labels)}
    found = labels.agreement("shop", JUDGE)
    assert found is not None
    assert (found.labels, found.agreement.point) == (len(pairs), 1.0)


def test_turns_before_the_question_are_known_where_the_dataset_is(
    world: World, labels: Labels
) -> None:
    def turns(*texts: str) -> tuple[Message, ...]:
        roles = ("user", "assistant") * len(texts)
        return tuple(Message(role, text) for role, text in zip(roles, texts, strict=False))  # type: ignore[arg-type]

    rows = [
        ChatExample("t1", "", 1, turns("Hi.", "How can I help?", "It broke.", "Sorry.")),
        ChatExample("t2", "", 2, turns("It broke.", "Sorry.")),
    ]
    assert labels.earlier("shop", "e1") == {}
    world.registry.update("shop", "evaluation#e1", {"dataset": "d1"})
    world.store.write(dataset_key("shop", "d1", "test.jsonl"), encode_lines(rows))
    assert labels.earlier("shop", "e1") == {"t1": "customer: Hi.\nagent: How can I help?"}
    session = begin(labels, "shop", "e1", "ann", 25)[0]
    shown = {}
    while pair := session.current:
        shown[pair.question] = pair.earlier
        session.skip()
    assert {q for q, earlier in shown.items() if earlier} == {"question 1"}


# --- A session


def test_two_people_begin_with_different_pairs_and_come_to_all(labels: Labels) -> None:
    label_all(session_of(labels, "ann", 10))
    session, left = begin(labels, "shop", "e1", "bob", 25)
    assert left == 25
    label_all(session)
    order = sorted(labels.labels("shop"), key=lambda label: label.at)
    ann = {label.pair for label in order if label.who == "ann"}
    bob = [label.pair for label in order if label.who == "bob"]
    assert not set(bob[:15]) & ann
    assert set(bob[15:]) == ann


def test_labels_of_a_person_are_seen_from_the_challenger(labels: Labels) -> None:
    label_all(session_of(labels, limit=25))
    assert set(said(labels).values()) == {"win"}
    label_all(session_of(labels, "bob", limit=25), "bad")
    assert {outcome for (_, who), outcome in said(labels).items() if who == "bob"} == {"loss"}


def test_undo_takes_the_last_label_back_at_once(labels: Labels) -> None:
    session = session_of(labels)
    first = session.current
    session.choose("tie")
    assert session.undo()
    assert session.current == first
    assert list(said(labels).values()) == [None]
    session.choose("left")
    assert None not in said(labels).values()
    assert session.position == session.labelled == 1


def test_undo_of_a_skip_and_at_the_beginning(labels: Labels) -> None:
    session = session_of(labels)
    assert not session.undo()
    session.skip()
    assert session.undo()
    assert (session.position, said(labels)) == (0, {})


def test_undone_pair_is_asked_again_in_another_session(labels: Labels) -> None:
    session = session_of(labels, limit=25)
    first = session.current
    assert first is not None
    session.choose("tie")
    assert begin(labels, "shop", "e1", "ann", 25)[1] == 24
    session.undo()
    assert begin(labels, "shop", "e1", "ann", 25)[1] == 25


def test_time_that_a_label_took_is_kept(labels: Labels) -> None:
    now = [100.0]
    pairs = session_of(labels)._pairs
    session = Session(labels, "shop", "e1", "ann", pairs, clock=lambda: now[0])
    now[0] = 104.5
    session.choose("tie")
    now[0] = 106.5
    session.choose("tie")
    taken = {label.at: label.seconds for label in labels.labels("shop")}
    assert taken == {104.5: 4.5, 106.5: 2.0}


def test_control_characters_are_shown_as_marks() -> None:
    assert visible("a\x1b[31mb\x07\u202ec\r\nd\te\x9b") == "a\ufffd[31mb\ufffd\ufffdc\nd    e\ufffd"
    kept = "naïve 日本 👩‍💻 العربية"
    assert visible(kept) == kept


# --- The terminal


Run = Callable[..., Result]


@pytest.fixture
def label(world: World, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs `dropforge label` with these keys, a line each."""
    module = importlib.import_module("dropforge.cli.app")
    monkeypatch.setattr(module, "console", Console(markup=False, emoji=False, width=120))

    def run(keys: str, *arguments: str) -> Result:
        monkeypatch.setattr(module, "here", Deployment())
        return CliRunner().invoke(
            app, ["label", *arguments], input="\n".join(keys) + "\n" * bool(keys)
        )

    return run


def test_keys_label_skip_undo_and_quit(label: Run, labels: Labels) -> None:
    done = label("lrtsuuLx?q", "-n", "6", "--who", "ann")
    assert done.exit_code == 0, done.output
    outcomes = [o for o in said(labels).values() if o]
    assert len(outcomes) == 3  # l, r, and L in place of the t that was undone
    assert "3 labelled, 0 skipped" in done.output
    assert done.output.count("l left is better") == 8 + 2  # drawn eight times, and told for x and ?
    assert "pair 3 of 6" in done.output


def test_agreement_is_told_at_the_end(label: Run, labels: Labels) -> None:
    keys = []
    session = session_of(labels, limit=20)
    while session.current:
        keys.append(side_of(session, "good")[0])
        session.skip()
    done = label("".join(keys), "--who", "ann")
    assert f"{JUDGE} agrees on 20 of 20: 100% [84%, 100%]" in done.output
    assert "until the interval is no wider than" in done.output


def test_floor_of_the_gate_is_told(label: Run, labels: Labels, world: World) -> None:
    world.put_project(PROJECT + "gate: {agreement: 0.9}\n")
    label_all(session_of(labels, limit=25))
    done = label("", "--who", "ann")
    assert "You have labelled every pair" in done.output
    assert "above the floor of 90%" in done.output


def test_second_opinions_are_compared(label: Run, labels: Labels) -> None:
    label_all(session_of(labels, limit=25))
    label_all(session_of(labels, "bob", limit=25), "bad")
    assert "People among themselves: the same on 0 of 25" in label("", "--who", "ann").output


def test_end_of_the_input_keeps_what_was_labelled(label: Run, labels: Labels) -> None:
    done = label("tt", "--who", "ann")
    assert done.exit_code == 0
    assert len(said(labels)) == 2


def test_nothing_labelled_says_so(label: Run, labels: Labels) -> None:
    assert "Nobody has labelled a pair yet." in label("q", "--who", "ann").output


def test_evaluation_without_judges_of_its_own_says_so(label: Run, world: World) -> None:
    from dropforge.judge import Judged

    give_samples(world, [sample(1, base=Judged(Outcome.WIN))])
    assert "No judge's own outcomes" in label("t", "--who", "ann").output


def test_version_names_the_evaluation(label: Run, labels: Labels, world: World) -> None:
    give_samples(world, [sample(99)], "e2", version="w2", at=9.0)
    assert "1 of 1 pairs" in label("q").output
    assert "20 of 25 pairs" in label("q", "--version", "v1").output
    world.registry.put("shop", "model#x3", {"version": "x3", "created_at": 1.0})
    done = label("", "--version", "x3")
    assert done.exit_code == 1
    assert "x3 has not been evaluated." in done.stderr


def test_project_without_an_evaluation_says_how_far_it_is(label: Run) -> None:
    done = label("")
    assert isinstance(done.exception, NoDataError)  # `main` prints it
    assert "dropforge status -p shop" in str(done.exception)


@pytest.mark.parametrize("name", ["", "a#b", "x" * 65, "a\x1bb"])
def test_name_that_cannot_be_kept_is_refused(label: Run, labels: Labels, name: str) -> None:
    done = label("", "--who", name)
    assert done.exit_code == 1
    assert "--who" in done.stderr


@pytest.mark.parametrize("end", [KeyboardInterrupt, EOFError])
def test_interrupt_loses_nothing(labels: Labels, end: type[BaseException]) -> None:
    keys = iter(["t", "l"])

    def read() -> str:
        try:
            return next(keys)
        except StopIteration:
            raise end from None

    out = Console(file=io.StringIO(), width=80)
    label_in_terminal(session_of(labels), out, read)
    assert len(said(labels)) == 2


@pytest.mark.parametrize(("typed", "key"), [(b"l", "l"), (b"\x1b[D", "\x1b[D")])
def test_key_of_a_terminal_is_read_without_return(
    monkeypatch: pytest.MonkeyPatch, typed: bytes, key: str
) -> None:
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "r") as terminal, os.fdopen(ours, "wb", buffering=0) as keyboard:

        def press() -> None:
            deadline = time.monotonic() + 10
            while termios.tcgetattr(terminal)[3] & termios.ICANON and time.monotonic() < deadline:
                time.sleep(0.01)  # what comes before the terminal is raw is thrown away
            keyboard.write(typed)

        monkeypatch.setattr(sys, "stdin", terminal)
        presses = threading.Thread(target=press)
        presses.start()
        assert _key() == key
        presses.join()


@pytest.mark.parametrize("width", [40, 80, 120])
def test_pair_is_drawn_within_the_width_and_without_obeying_its_text(
    labels: Labels, width: int
) -> None:
    out = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    pair = Shown("k", "earlier", *map(visible, (TRICKY, "w" * 300, TRICKY, "one\ntwo")))
    out.print(draw(pair, session_of(labels), width))
    drawn = out.file.getvalue()  # type: ignore[attr-defined]
    plain = drawn.replace("\x1b[0m", "").replace("\x1b[1m", "").replace("\x1b[2m", "")
    assert not set("\x1b\x07\u202e") & set(plain)
    assert "[bold]x[/bold]" in " ".join(plain.split()) or width == 40
    assert max(map(len, plain.splitlines())) <= width
    assert plain.count("w") >= 300


def test_nobody_sees_which_arm_is_which_or_what_the_judge_said(labels: Labels) -> None:
    out = Console(file=io.StringIO(), width=100)
    session = session_of(labels)
    assert session.current is not None
    out.print(draw(session.current, session, 100))
    drawn = out.file.getvalue()  # type: ignore[attr-defined]
    for word in ("challenger", "base", "champion", "win", "gpt-4.1"):
        assert word not in drawn


# --- The page's server


@pytest.fixture
def served(labels: Labels) -> Iterator[Served]:
    with opened(session_of(labels), labels) as served:
        yield served


@pytest.mark.parametrize("query", ["", "token=", "token=wrong", "other=1", "token=%FF"])
@pytest.mark.parametrize(("method", "path"), [("GET", "/"), ("GET", "/state"), ("POST", "/choose")])
def test_nothing_is_answered_without_the_token(
    served: Served, labels: Labels, method: str, path: str, query: str
) -> None:
    pair = served.get()["pair"]["key"]
    body = {"pair": pair, "choice": "tie"} if method == "POST" else None
    status, told, _ = served.ask(method, path, body, query=query)
    assert status == 403
    assert "question" not in str(told)
    assert said(labels) == {}


def test_request_under_another_hosts_name_is_refused(served: Served) -> None:
    assert served.ask("GET", "/state", Host="evil.example")[0] == 403
    assert served.ask("GET", "/state", Host=f"evil.example:{served.port}")[0] == 403
    assert served.ask("GET", "/state", Host=f"localhost:{served.port}")[0] == 200


def test_post_of_another_origin_is_refused(served: Served, labels: Labels) -> None:
    body = {"pair": served.get()["pair"]["key"], "choice": "tie"}
    assert served.ask("POST", "/choose", body, Origin="https://evil.example")[0] == 403
    assert served.ask("POST", "/choose", body, Origin="null")[0] == 403
    assert said(labels) == {}
    ours = f"http://127.0.0.1:{served.port}"
    assert served.ask("POST", "/choose", body, Origin=ours)[0] == 200


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        ({"pair": "x", "choice": "tie"}, "text/plain", 415),
        (b"{", "application/json", 400),
        ({"pair": "x", "choice": "win"}, "application/json", 400),
        (b"\xff\xfe", "application/json", 400),
        (b" " * 20_000, "application/json", 400),
    ],
)
def test_body_that_is_no_choice_is_refused(
    served: Served, body: Any, kind: str, status: int
) -> None:
    headers = {"Content-Type": kind}
    assert served.ask("POST", "/choose", body, **headers)[0] == status
    assert served.get()["position"] == 0


def test_page_listens_on_the_loopback_address_only(served: Served) -> None:
    assert served.host == "127.0.0.1"
    with socket.socket() as other:
        other.settimeout(2)
        assert other.connect_ex(("127.0.0.2", served.port)) != 0


def test_page_may_load_nothing_and_be_framed_by_nobody(served: Served) -> None:
    status, text, headers = served.ask("GET", "/")
    assert status == 200
    policy = headers["Content-Security-Policy"]
    for rule in ("default-src 'none'", "frame-ancestors 'none'", "form-action 'none'"):
        assert rule in policy
    assert "unsafe" not in policy
    assert headers["Cache-Control"] == "no-store"
    assert headers["Referrer-Policy"] == "no-referrer"
    again = served.ask("GET", "/")[2]["Content-Security-Policy"]
    assert again != policy  # another nonce
    assert "http:" not in text
    assert "https:" not in text


def test_unknown_paths_are_not_found(served: Served) -> None:
    assert served.ask("GET", "/etc/passwd")[0] == 404
    assert served.ask("POST", "/other", {})[0] == 404


def test_page_labels_skips_and_undoes(served: Served, labels: Labels) -> None:
    state = served.get()
    assert (state["position"], state["total"], state["who"]) == (0, 5, "ann")
    state = served.post("/choose", {"pair": state["pair"]["key"], "choice": "tie"})
    assert (state["position"], list(said(labels).values())) == (1, ["tie"])
    state = served.post("/choose", {"pair": state["pair"]["key"], "choice": "skip"})
    state = served.post("/undo", {"position": state["position"]})
    state = served.post("/undo", {"position": state["position"]})
    assert (state["position"], list(said(labels).values())) == (0, [None])


def test_click_on_a_pair_that_is_past_changes_nothing(served: Served, labels: Labels) -> None:
    key = served.get()["pair"]["key"]
    answers: list[Any] = []

    def click() -> None:
        answers.append(served.post("/choose", {"pair": key, "choice": "tie"}))

    threads = [threading.Thread(target=click) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(said(labels)) == 1
    assert [answer["position"] for answer in answers] == [1, 1]
    assert served.post("/undo", {"position": 7})["position"] == 1


def test_finish_tells_the_agreement_and_ends_the_server(labels: Labels) -> None:
    session = session_of(labels, limit=25)
    with opened(session, labels) as served:
        label_all(session)
        assert served.get()["pair"] is None
        lines = served.post("/finish", {})["lines"]
        assert f"{JUDGE} agrees on 25 of 25" in lines[0]
    assert served.lines == lines
    assert labels.agreement("shop", JUDGE) is not None


def test_two_people_with_a_page_each(labels: Labels) -> None:
    with (
        opened(session_of(labels), labels) as ann,
        opened(session_of(labels, "bob"), labels) as bob,
    ):
        assert ann.query != bob.query
        assert ann.ask("GET", "/state", query=bob.query)[0] == 403
        for _ in range(5):
            for page in (ann, bob):
                page.post("/choose", {"pair": page.get()["pair"]["key"], "choice": "left"})
    assert len(said(labels)) == 10
    pairs = {pair for pair, _ in said(labels)}
    assert len(pairs) > 5  # they began at the same moment, but not with the same pairs
    found = labels.agreement("shop", JUDGE)
    assert found is not None
    assert found.labels == len(pairs)


def test_label_that_cannot_be_saved_is_told_and_not_counted(labels: Labels, world: World) -> None:
    broken = Labels(world.store, Registry("no-such-table", boto3.resource("dynamodb")))
    session = Session(broken, "shop", "e1", "ann", session_of(labels)._pairs)
    with opened(session, labels) as served:
        body = {"pair": served.get()["pair"]["key"], "choice": "tie"}
        status, told, _ = served.ask("POST", "/choose", body)
        assert status == 502
        assert "Not saved" in told["error"]
        assert served.get()["position"] == 0


def test_page_command_prints_its_address_and_the_end(
    label: Run, labels: Labels, monkeypatch: pytest.MonkeyPatch
) -> None:
    def person(url: str) -> bool:
        """Somebody whose browser the address is opened in, and who finishes at once."""
        page = Served(url)
        threading.Thread(target=page.post, args=("/finish", {})).start()
        return True

    monkeypatch.setattr("webbrowser.open", person)
    done = label("", "--page", "--open", "--who", "ann", "-n", "3")
    assert done.exit_code == 0, done.output
    assert "Label 3 pairs at http://127.0.0.1:" in done.output
    assert "Nobody has labelled a pair yet." in done.output


def test_interrupt_of_the_page_keeps_what_was_labelled(labels: Labels) -> None:
    session, main = session_of(labels), threading.get_ident()
    interrupts: list[threading.Timer] = []

    def person(url: str) -> None:
        session.choose("tie")
        interrupts.append(threading.Timer(0.3, signal.pthread_kill, (main, signal.SIGINT)))
        interrupts[0].start()

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's job ignores it
    try:
        assert serve(session, lambda: ["not called"], person) is None
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(said(labels)) == 1


def test_taken_port_is_told(label: Run, labels: Labels) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = label("", "--page", "--port", str(taken.getsockname()[1]), "--who", "ann")
    assert done.exit_code == 1
    assert "cannot be used" in done.stderr
