"""The labelling page as a person uses it: with mouse and keys, on a wide screen and on a phone."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from dropforge.backends.labels import Labels
from dropforge.cli.label.session import begin
from tests.support.browser import Page
from tests.support.labels import JUDGE, Served, give_samples, opened, sample
from tests.support.world import World

SCRIPT = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
LONG = "The pump is sealed. " * 60 + "w" * 400


@pytest.fixture
def labels(world: World) -> Labels:
    tricky: dict[str, Any] = {"question": SCRIPT, "reference": f"{SCRIPT}\nsecond line"}
    answers = {"challenger": f"{SCRIPT} {LONG}", "base": f"</p></section>{SCRIPT} {{{{7*7}}}}"}
    give_samples(world, [sample(n, answers=answers, **tricky) for n in range(1)])
    give_samples(world, [sample(n) for n in range(6)], "e2", version="v2", at=2.0)
    return Labels(world.store, world.registry)


@pytest.fixture
def served(labels: Labels) -> Iterator[Served]:
    with opened(begin(labels, "shop", "e2", "ann", 6)[0], labels) as served:
        yield served


@pytest.fixture
def tricky(labels: Labels) -> Iterator[Served]:
    with opened(begin(labels, "shop", "e1", "ann", 6)[0], labels) as served:
        yield served


def go(page: Page, url: str) -> None:
    page.call("Page.enable")
    page.call("Log.enable")
    page.call("Page.navigate", url=url)
    until(page, "document.readyState === 'complete' && typeof state === 'object' && state !== null")


def until(page: Page, condition: str) -> None:
    """Wait until a JavaScript expression is true."""
    deadline = time.monotonic() + 60
    while not page.ask(condition):
        assert time.monotonic() < deadline, condition
        time.sleep(0.02)


def press(page: Page, key: str) -> None:
    code = {"ArrowLeft": 37, "ArrowRight": 39}.get(key, ord(key[0].upper()))
    for kind in ("keyDown", "keyUp"):
        page.call("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code)


def click(page: Page, button: str, times: int = 1) -> None:
    """Click in the middle of a button, where something else may lie on top of it."""
    box = page.ask(
        f"(box => [box.x + box.width / 2, box.y + box.height / 2])"
        f"(document.getElementById('{button}').getBoundingClientRect())"
    )
    where = {"x": box[0], "y": box[1], "button": "left"}
    for count in range(1, times + 1):
        for kind in ("mousePressed", "mouseReleased"):
            page.call("Input.dispatchMouseEvent", type=kind, clickCount=count, **where)


def saved(labels: Labels) -> list[str | None]:
    found = sorted(labels.labels("shop"), key=lambda label: label.at)
    return [label.outcome for label in found]


def test_person_labels_with_mouse_and_keys_and_sees_how_the_judge_agrees(
    page: Page, served: Served, labels: Labels
) -> None:
    go(page, served.url)
    acts: list[Callable[[], None]] = [
        lambda: click(page, "left"),
        lambda: press(page, "r"),
        lambda: press(page, "ArrowLeft"),
        lambda: press(page, "t"),
        lambda: click(page, "skip"),
        lambda: press(page, "ArrowRight"),
    ]
    expected = []
    for number, act in enumerate(acts):
        until(page, f"state.position === {number}")
        good_left = page.ask("document.getElementById('left-text').textContent.startsWith('good')")
        expected.append(
            {0: good_left, 2: good_left, 1: not good_left, 5: not good_left}.get(number)
        )
        act()
    until(page, "state.position === 6")
    assert page.ask("document.querySelector('progress').value") == 6
    assert "last pair" in page.ask("document.body.innerText")
    wins = [None if e is None else "win" if e else "loss" for e in expected]
    assert saved(labels) == [*wins[:3], "tie", wins[5]]
    click(page, "finish")
    until(page, "Boolean(state.lines)")
    text = page.ask("document.body.innerText")
    assert f"{JUDGE} agrees on {wins.count('win')} of 5" in text
    assert "This page can be closed" in text
    assert page.ask("document.getElementById('bar').checkVisibility()") is False
    assert page.complaints == []


def test_undo_goes_back_and_takes_the_label_back(
    page: Page, served: Served, labels: Labels
) -> None:
    go(page, served.url)
    question = page.ask("document.getElementById('question').textContent")
    assert page.ask("document.getElementById('undo').disabled")
    press(page, "t")
    until(page, "state.position === 1")
    click(page, "undo")
    until(page, "state.position === 0")
    assert page.ask("document.getElementById('question').textContent") == question
    assert saved(labels) == [None]


def test_double_click_and_held_key_label_one_pair(
    page: Page, served: Served, labels: Labels
) -> None:
    go(page, served.url)
    click(page, "left", times=2)
    until(page, "state.position === 1 && !busy")
    key = {"key": "t", "windowsVirtualKeyCode": 84}
    page.call("Input.dispatchKeyEvent", type="keyDown", **key)
    for _ in range(5):
        page.call("Input.dispatchKeyEvent", type="keyDown", autoRepeat=True, **key)
    page.call("Input.dispatchKeyEvent", type="keyUp", **key)
    until(page, "state.position === 2 && !busy")
    assert len(saved(labels)) == 2


def test_keys_of_the_browser_itself_label_nothing(
    page: Page, served: Served, labels: Labels
) -> None:
    go(page, served.url)
    for modifiers in (1, 2, 4):  # alt, ctrl, meta
        event = {"key": "t", "windowsVirtualKeyCode": 84, "modifiers": modifiers}
        page.call("Input.dispatchKeyEvent", type="rawKeyDown", **event)
        page.call("Input.dispatchKeyEvent", type="keyUp", **event)
    press(page, "x")
    assert page.ask("state.position") == 0
    assert saved(labels) == []


def test_texts_are_shown_as_they_are_and_never_run(page: Page, tricky: Served) -> None:
    go(page, tricky.url)
    assert page.ask("document.getElementById('question').textContent") == SCRIPT
    assert page.ask("document.querySelectorAll('main img, main script').length") == 0
    both = page.ask("['left-text', 'right-text'].map(id => document.getElementById(id).innerText)")
    assert all(SCRIPT in text for text in both)
    assert page.ask("document.title") == "Which answer is better?"
    assert page.complaints == []


def test_page_fetches_from_its_own_server_only(page: Page, served: Served) -> None:
    go(page, served.url)
    loaded = page.ask("performance.getEntriesByType('resource').map(entry => entry.name)")
    assert all(name.startswith(f"http://127.0.0.1:{served.port}/state") for name in loaded)


def test_page_without_its_token_shows_no_pair(page: Page, served: Served) -> None:
    page.call("Page.enable")
    page.call("Page.navigate", url=served.url.partition("?")[0])
    until(page, "document.readyState === 'complete' && document.body.innerText.includes('error')")
    assert "question" not in page.ask("document.body.innerText")


@pytest.mark.parametrize("width", [1200, 390, 320])
def test_page_fits_the_window_and_its_buttons_are_in_reach(
    page: Page, tricky: Served, width: int
) -> None:
    page.resize(width, 800)
    go(page, tricky.url)
    wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert page.ask(wide) <= 0
    for button in ("left", "tie", "right"):
        box: dict[str, Any] = page.ask(
            f"document.getElementById('{button}').getBoundingClientRect().toJSON()"
        )
        assert box["height"] >= 44
        assert box["bottom"] <= 800
        assert (
            page.ask(
                f"document.elementFromPoint({box['x'] + 5}, {box['y'] + 5}).closest('button')?.id"
            )
            == button
        )
    beside = "(l, r) => l.getBoundingClientRect().top === r.getBoundingClientRect().top"
    sections = "...document.querySelectorAll('.answers section')"
    assert page.ask(f"({beside})({sections})") is (width == 1200)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_stand_out_from_the_background(page: Page, served: Served, scheme: str) -> None:
    """Contrast of at least 4.5 to 1 (WCAG 2.2, 1.4.3)."""
    feature = {"name": "prefers-color-scheme", "value": scheme}
    page.call("Emulation.setEmulatedMedia", features=[feature])
    go(page, served.url)
    weak = page.ask("""(() => {
        const light = color => {
            const [r, g, b] = color.match(/[\\d.]+/g).map(v => v / 255)
                .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
            return 0.2126 * r + 0.7152 * g + 0.0722 * b;
        };
        const back = light(getComputedStyle(document.body).backgroundColor);
        return [...document.querySelectorAll('h1, h2, p, button, kbd, span')].filter(part => {
            const front = light(getComputedStyle(part).color);
            return (Math.max(front, back) + 0.05) / (Math.min(front, back) + 0.05) < 4.5;
        }).map(part => part.id || part.tagName);
    })()""")
    assert weak == []
    assert (
        page.ask("getComputedStyle(document.body).backgroundColor")
        == {
            "light": "rgb(255, 255, 255)",
            "dark": "rgb(20, 24, 30)",
        }[scheme]
    )


def test_page_whose_command_has_ended_says_that_labels_are_kept(page: Page, served: Served) -> None:
    go(page, served.url)
    served.post("/finish", {})
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            served.get()
        except OSError:
            break
        time.sleep(0.05)
    press(page, "t")
    until(page, "document.getElementById('said').textContent.includes('are kept')")
