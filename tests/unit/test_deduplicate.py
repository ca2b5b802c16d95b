from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dropforge.clean.deduplicate import THRESHOLD, Deduplicator, jaccard, shingles

WORDS = [f"word{i}" for i in range(400)]


def text_of(words: list[str]) -> str:
    return " ".join(words)


def test_shingles_are_overlapping_threes_of_words() -> None:
    assert len(shingles("one two three four five")) == 3
    assert shingles("One, TWO three!") == shingles("one two three")


@pytest.mark.parametrize("text", ["", "?!", "one", "one two"])
def test_short_text_has_one_shingle(text: str) -> None:
    assert len(shingles(text)) == 1


def test_jaccard_is_the_shared_share() -> None:
    assert jaccard(frozenset({1, 2, 3}), frozenset({2, 3, 4})) == pytest.approx(0.5)
    assert jaccard(frozenset({1}), frozenset({1})) == 1
    assert jaccard(frozenset({1}), frozenset({2})) == 0


def test_first_of_two_near_texts_is_named() -> None:
    seen = Deduplicator()
    words = WORDS[:60]
    assert seen.nearest(text_of(words), 7) is None
    assert seen.nearest(text_of([*words[:-1], "changed"]), 8) == 7


def test_near_text_is_not_remembered_itself() -> None:
    """So a chain of small steps does not eat ever more different texts."""
    seen = Deduplicator()
    assert seen.nearest(text_of(WORDS[:50]), 1) is None
    assert seen.nearest(text_of(WORDS[3:53]), 2) == 1
    assert seen.nearest(text_of(WORDS[8:58]), 3) is None


def test_nine_in_ten_pairs_over_the_threshold_are_found() -> None:
    """The docstring's .985 is for a similarity of exactly .8; these are just above."""
    rng = random.Random(7)  # noqa: S311
    found = 0
    for _ in range(200):
        words = rng.sample(WORDS, 80)
        changed = [*words[:-6], *rng.sample(WORDS, 6)]
        assert jaccard(shingles(text_of(words)), shingles(text_of(changed))) >= THRESHOLD
        seen = Deduplicator()
        seen.nearest(text_of(words), 1)
        found += seen.nearest(text_of(changed), 2) == 1
    assert found > 180


texts = st.lists(st.sampled_from(WORDS[:12]), min_size=1, max_size=10).map(text_of)


@given(st.lists(texts, max_size=15))
def test_nothing_less_similar_is_taken_for_a_duplicate(listed: list[str]) -> None:
    seen = Deduplicator()
    for position, text in enumerate(listed):
        near = seen.nearest(text, position)
        if near is not None:
            assert near < position
            assert jaccard(shingles(text), shingles(listed[near])) >= THRESHOLD


@given(texts)
def test_same_words_are_always_found(text: str) -> None:
    seen = Deduplicator()
    seen.nearest(text, 1)
    assert seen.nearest(text.upper() + "!", 2) == 1
