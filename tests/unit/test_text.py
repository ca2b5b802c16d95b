from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dropforge.text import normalise, same_text


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
    ],
)
def test_text_is_normalised_as_people_read_it(written: str, read: str) -> None:
    assert normalise(written) == read


@given(st.text())
def test_normalised_text_is_tidy_whatever_came_in(text: str) -> None:
    found = normalise(text)
    assert found == found.strip()
    assert unicodedata.is_normalized("NFC", found)
    assert not any(unicodedata.category(c) == "Cs" for c in found)
    assert "  " not in found
    assert "\n\n" not in found
    found.encode()


@given(st.text(st.characters(exclude_characters="<&")))
def test_normalising_plain_text_again_changes_nothing(text: str) -> None:
    assert normalise(normalise(text)) == normalise(text)


@pytest.mark.parametrize("piece", ["<a ", "< ", "&#", "\n ", "<br", "</", " \u200b"])
def test_normalising_takes_linear_time_on_repetitions(piece: str) -> None:
    assert len(normalise(piece * 20_000)) <= len(piece) * 20_000


def test_same_text_ignores_case_and_spaces_alone() -> None:
    assert same_text("Where  IS\nit?") == same_text(" where is it? ")
    assert same_text("Where is it?") != same_text("Where is it")
