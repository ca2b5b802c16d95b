from __future__ import annotations

import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dropforge.text import normalise, repair_mojibake, same_text


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("  two   words ", "two words"),
        ("<p>Hello</p><p>you</p>", "Hello\nyou"),
        ("one<br>two<BR />three", "one\ntwo\nthree"),
        ('<a href="https://x.example">this page</a>', "this page"),
        ("fish &amp; chips&nbsp;now", "fish & chips now"),
        ("1 < 2 and <order number>", "1 < 2 and <order number>"),
        ("a\r\nb\rc\u2028d\x85e", "a\nb\nc\nd\ne"),
        ("a\n\n \n\nb", "a\nb"),
        ("in\u200bvis\u202eible\u2060\ufeff", "invisible"),
        ("soft\xadhyphen", "softhyphen"),
        ("nul\x00byte", "nulbyte"),
        ("hidden\U000e0041\U000e0042", "hidden"),
        ("lone \ud800surrogate", "lone surrogate"),
        ("cafe\u0301", "caf\u00e9"),
        ("", ""),
        ("a < b, <3 and List<String> or if a <b and c> d", None),
        ("<john@mail.example> wrote", None),
        ("Hi<script>var a = '<b>';</script> <style>p {}</style>all<!-- x -->!", "Hi all!"),
        ("<ul><li>one</li><li>two</li></ul>", "- one\n- two"),
        ("<tr>\n <td>a</td>\n <td>b</td></tr><tr><td>c</td><td>d</td></tr>", "a | b\nc | d"),
        ("<!-- never closed <p>but read</p>", "<!-- never closed\nbut read"),
        (
            "👨\u200d👩\u200d👧 and 🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
            None,
        ),
        ("می\u200cخواهم क्\u200dष", None),
        ("a\u200db", "ab"),
        ("&amp;lt;b&amp;gt;bold", "bold"),
        ("cafÃ© â€™ ðŸ˜€ ÃƒÂ©", "café ’ 😀 é"),
        ("São João, NÃO, à «x»", None),
    ],
)
def test_text_is_normalised_as_people_read_it(written: str, read: str | None) -> None:
    assert normalise(written) == (written if read is None else read)


@given(st.text())
def test_normalised_text_is_tidy_whatever_came_in(text: str) -> None:
    found = normalise(text)
    assert found == found.strip()
    assert unicodedata.is_normalized("NFC", found)
    assert not any(unicodedata.category(c) == "Cs" for c in found)
    assert "  " not in found
    assert "\n\n" not in found
    found.encode()


html_pieces = st.sampled_from(
    [
        "<",
        ">",
        "&",
        "amp;",
        "lt;",
        "gt;",
        "&lt;",
        "#38;",
        "b",
        "/b",
        "<p>",
        "</td><td>",
        "<!--",
        "-->",
        "<script>",
        "</script>",
        "<a href='",
        "'>",
        " ",
        "\n",
        "Ã",
        "©",
        "\u200d",
        "👩",
        "\u0301",
        "é",
    ]
)


@given(st.text() | st.lists(html_pieces, max_size=30).map("".join))
def test_normalising_again_changes_nothing(text: str) -> None:
    assert normalise(normalise(text)) == normalise(text)


@given(st.text(st.characters(max_codepoint=0x24F, exclude_categories=["C"])))
def test_mojibake_is_restored(text: str) -> None:
    broken = text.encode().decode("cp1252", "ignore")
    meant = broken.encode("cp1252").decode(errors="ignore") == text
    repaired = repair_mojibake(broken)
    assert len(repaired) <= len(broken)
    assert repair_mojibake("Größe, café") == "Größe, café"
    if meant and text.isascii():
        assert repaired == text


def test_plain_text_costs_next_to_nothing() -> None:
    text = (
        "Where is my order? It has not come yet, and I wait. " * 5 + "Please help, thank you all!"
    )
    normalise(text)
    began = time.process_time()
    for _ in range(2000):
        normalise(text)
    assert (time.process_time() - began) / 2000 < 10e-6  # 1 µs on a quiet machine


@pytest.mark.parametrize(
    "piece",
    [
        "<a ",
        "< ",
        "&#",
        "\n ",
        "<br",
        "</",
        " \u200b",
        "<!--",
        "<script>",
        "<a x='",
        '<a x="',
        "<a x=1 ",
        "<<b>b>",
        "&amp;",
        "amp;",
        "</td>",
        "</td> <td ",
        "Ã",
        "Ã©",
        "\u200d",
        "👩\u200d",
        "<?xml ",
        "&lt;",
    ],
)
def test_normalising_takes_linear_time_on_repetitions(piece: str) -> None:
    text = piece * (100_000 // len(piece))
    began = time.process_time()
    assert len(normalise(text)) <= len(text)
    assert time.process_time() - began < 1


def test_same_text_ignores_case_and_spaces_alone() -> None:
    assert same_text("Where  IS\nit?") == same_text(" where is it? ")
    assert same_text("Where is it?") != same_text("Where is it")
