"""What is asked of every page in a browser: nothing cut off, nothing overlapping, all readable."""

from __future__ import annotations

from typing import Any

from tests.support.browser import Page

WIDTHS = (390, 820, 1200)
SCHEMES = ("light", "dark")

_OVERLAPPING = """[...document.querySelectorAll('svg[role=img]')].flatMap(svg => {
    const texts = [...svg.querySelectorAll('text')]
        .map(text => [text.firstChild?.data ?? '', text.getBoundingClientRect()]);
    return texts.flatMap(([a, x], i) => texts.slice(i + 1)
        .filter(([, y]) => x.left < y.right - 1 && y.left < x.right - 1 &&
            x.top < y.bottom - 3 && y.top < x.bottom - 3)
        .map(([b]) => a + ' / ' + b));
})"""

_CUT_OFF = """[...document.querySelectorAll('svg[role=img]')].flatMap(svg => {
    const frame = svg.getBoundingClientRect();
    return [...svg.querySelectorAll('text,circle,rect')].filter(mark => {
        const box = mark.getBoundingClientRect();
        return box.left < frame.left - 2 || box.right > frame.right + 2 ||
            box.top < frame.top - 2 || box.bottom > frame.bottom + 2;
    }).map(mark => mark.textContent || mark.outerHTML);
})"""

_FAINT = """(() => {
    const paint = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
    const rgb = colour => {
        paint.clearRect(0, 0, 1, 1); paint.fillStyle = colour; paint.fillRect(0, 0, 1, 1);
        return [...paint.getImageData(0, 0, 1, 1).data];
    };
    const light = ([r, g, b]) => [r, g, b].map(c => c / 255)
        .map(c => c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
        .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
    const behind = element => {
        for (let e = element; e; e = e.parentElement) {
            const found = rgb(getComputedStyle(e).backgroundColor);
            if (found[3] === 255) return found;
        }
        return rgb('white');
    };
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    const faint = new Set();
    while (walker.nextNode()) {
        const element = walker.currentNode.parentElement;
        if (!walker.currentNode.data.trim() || element.closest('title,style')) continue;
        const style = getComputedStyle(element);
        const ink = light(rgb(element.closest('svg') ? style.fill : style.color));
        const ground = light(behind(element));
        const ratio = (Math.max(ink, ground) + 0.05) / (Math.min(ink, ground) + 0.05);
        if (ratio < 4.5) faint.add(ratio.toFixed(1) + ' ' + walker.currentNode.data.slice(0, 40));
    }
    return [...faint];
})()"""


def dress(page: Page, scheme: str = "light", media: str = "screen") -> None:
    """Show the page in a colour scheme, or as it is printed."""
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    page.call("Emulation.setEmulatedMedia", media=media, features=features)


def overhang(page: Page) -> Any:
    """Pixels by which the page is wider than the window."""
    return page.ask("document.documentElement.scrollWidth - document.documentElement.clientWidth")


def overlapping_texts(page: Page) -> Any:
    """Pairs of texts of one plot that lie on each other."""
    return page.ask(_OVERLAPPING)


def cut_off(page: Page) -> Any:
    """Marks and texts that reach out of their plot."""
    return page.ask(_CUT_OFF)


def faint_texts(page: Page) -> Any:
    """Texts with a contrast below 4.5 to 1 (WCAG 2.2, success criterion 1.4.3, level AA)."""
    return page.ask(_FAINT)


def visible(page: Page, selector: str) -> Any:
    """How many of the elements are shown."""
    return page.ask(
        f"[...document.querySelectorAll({selector!r})].filter(e => e.checkVisibility()).length"
    )


def click(page: Page, selector: str) -> None:
    """A click of the mouse in the middle of an element."""
    place = page.ask(
        f"(() => {{ const e = document.querySelector({selector!r}); "
        "e.scrollIntoView({block: 'center'}); const box = e.getBoundingClientRect(); "
        "return [box.left + box.width / 2, box.top + box.height / 2]; })()"
    )
    for kind in ("mousePressed", "mouseReleased"):
        page.call(
            "Input.dispatchMouseEvent",
            type=kind,
            x=place[0],
            y=place[1],
            button="left",
            clickCount=1,
        )


def assert_whole(page: Page) -> None:
    """The page fits every window, its plots are whole, and it fetches and complains of nothing."""
    for width in WIDTHS:
        page.resize(width)
        assert overhang(page) <= 0, width
        assert overlapping_texts(page) == [], width
        assert cut_off(page) == [], width
    assert page.complaints == []
    assert page.ask("performance.getEntriesByType('resource').length") == 0
