from __future__ import annotations

import random
import time
import tracemalloc
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dropforge.deduplicate import (
    BANDS,
    BUCKET,
    THRESHOLD,
    Deduplicator,
    Shingles,
    band_keys,
    components,
    jaccard,
    shingles,
)

WORDS = [f"word{i}" for i in range(400)]


def text_of(words: Sequence[str]) -> str:
    return " ".join(words)


def row(batch: Shingles, i: int) -> list[int]:
    return batch.hashes[batch.offsets[i] : batch.offsets[i + 1]].tolist()


def similarity(one: str, other: str) -> float:
    both = shingles([one, other])
    cut = both.offsets[1]
    return jaccard(both.hashes[:cut], both.hashes[cut:])


# The definition once more, slowly: sets of 3-grams as strings.


def slow_words(text: str) -> list[str]:
    if text.isascii():
        alone: Callable[[str], bool] = lambda c: False  # noqa: E731
    else:
        alone = lambda c: unicodedata.category(c) == "So" or "\u3041" <= c <= "\u9fff"  # noqa: E731
    words = [""]
    for c in text.casefold():
        if alone(c):
            words += [c, ""]
        elif c == "_" or (unicodedata.category(c)[0] in "LMN" and c != "\ufe0f"):
            words[-1] += c
        else:
            words.append("")
    return [word for word in words if word]


def slow_shingles(text: str) -> frozenset[tuple[str, ...]]:
    words = slow_words(text)
    if len(words) < 3:
        return frozenset([tuple(words)] if words else [])
    return frozenset(zip(words, words[1:], words[2:], strict=False))


def slow_similarity(one: str, other: str) -> float:
    a, b = slow_shingles(one), slow_shingles(other)
    return len(a & b) / len(a | b) if a | b else 1.0


def slow_nearest(texts: Sequence[str]) -> list[int]:
    """The documented rule: candidates are the first `BUCKET` rows of each of a row's buckets."""
    buckets: defaultdict[tuple[int, int], list[int]] = defaultdict(list)
    for i, keys in enumerate(band_keys(shingles(texts)).tolist()):
        for band, key in enumerate(keys):
            buckets[band, key].append(i)
    nearest = [-1] * len(texts)
    for bucket in buckets.values():
        for i in bucket:
            for j in bucket[:BUCKET]:
                if j < i and slow_similarity(texts[i], texts[j]) >= THRESHOLD:
                    nearest[i] = j if nearest[i] < 0 else min(nearest[i], j)
    return nearest


letters = st.sampled_from("abzAZ059_ .,'-\n\0äßİΣéकिम注文東ひサ한국عرب👍🏽❤\ufe0f\u200d’…\ud800")
spaced_scripts = st.characters(max_codepoint=0xDFF)  # scripts that `slow_words` knows
any_text = st.text(letters, max_size=40) | st.text(spaced_scripts, max_size=20)
long_words = st.text(st.sampled_from("abAé"), min_size=1, max_size=40)
few_words = st.lists(st.sampled_from(WORDS[:7]), max_size=9).map(text_of)
few_texts = st.lists(few_words | any_text, max_size=25)


@given(st.lists(any_text | st.lists(long_words, max_size=6).map(text_of), max_size=8))
@settings(max_examples=5 * settings().max_examples)
def test_shingles_are_the_sets_of_three_words(texts: list[str]) -> None:
    batch = shingles(texts)
    slow = [slow_shingles(text) for text in texts]
    hashes: dict[tuple[str, ...], int] = {}
    for i in range(len(texts)):
        mine = row(batch, i)
        assert mine == sorted(set(mine))
        assert len(mine) == len(slow[i])
        grams = [*slow[i]]
        apart = shingles([text_of(gram) for gram in grams])
        for place, gram in enumerate(grams):
            alone = row(apart, place)
            assert len(alone) == 1
            assert hashes.setdefault(gram, alone[0]) == alone[0]
        assert mine == sorted(hashes[gram] for gram in slow[i])
    assert len(set(hashes.values())) == len(hashes)


def test_shingles_do_not_depend_on_the_batch() -> None:
    rng = random.Random(1)
    texts = [text_of(rng.choices([*WORDS, "é", "注"], k=rng.randrange(900))) for _ in range(400)]
    whole = shingles(texts)
    for i, text in enumerate(texts):
        assert row(whole, i) == row(shingles([text]), 0)
    keys = band_keys(whole)
    assert keys.shape == (400, BANDS)
    assert np.array_equal(keys[7:9], band_keys(shingles(texts[7:9])))


def test_hashes_stay_as_they_are_for_indexes_made_earlier() -> None:
    texts = ["One two, three four!", "Straße nach Köln", "注文番号", "internationalisation", ""]
    batch = shingles(texts)
    assert batch.offsets.tolist() == [0, 2, 3, 5, 6, 6]
    known = [1360154392, 3820948698, 150226865, 256301, 742570331, 2847691407]
    assert batch.hashes.tolist() == known
    keys = band_keys(batch)
    assert keys[0, :3].tolist() == [3151353167, 3241922877, 923038624]
    assert keys[4].tolist() == [1472139041] * BANDS


def test_nothing_in_is_nothing_out() -> None:
    assert shingles([]).offsets.tolist() == [0]
    assert band_keys(shingles([])).shape == (0, BANDS)
    seen = Deduplicator()
    assert seen.add([]).size == seen.add_shingles(shingles([])).size == 0
    assert seen.add(["a b c", "a b c"]).tolist() == [-1, 0]


def test_texts_longer_than_a_chunk_are_whole() -> None:
    rng = random.Random(4)
    words = rng.choices(WORDS, k=200_000)
    changed = [*words[:-1], "changed"]
    texts = ["a", text_of(words), "b", text_of(changed)]
    assert Deduplicator().add(texts).tolist() == [-1, -1, -1, 1]


def test_structured_words_collide_no_more_than_chance() -> None:
    """Of 200,000 numbers 4.7 pairs are expected to share 32 bits."""
    batch = shingles([f"order {i:09d} is" for i in range(200_000)])
    assert 200_000 - np.unique(batch.hashes).size < 20
    ranges = np.bincount(batch.hashes >> 27, minlength=32)
    assert abs(ranges / 6250 - 1).max() < 0.08


def test_words_that_differ_in_one_byte_differ() -> None:
    rng = random.Random(2)
    words = set()
    for length in [*range(1, 70), 255, 256, 257, 1000]:
        base = "".join(rng.choices("abcdefgh", k=length))
        words |= {base} | {base[:i] + "x" + base[i + 1 :] for i in range(length)}
    batch = shingles(sorted(words))
    assert batch.hashes.size == len(words)
    assert np.unique(batch.hashes).size >= len(words) - 1  # 32 bits: .003 collisions are expected


def test_same_letter_makes_longer_words_that_differ() -> None:
    batch = shingles(["x" * length for length in range(1, 600)])
    assert np.unique(batch.hashes).size == 599


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("One, TWO three!", "one two three"),
        ("STRASSE IN KÖLN heute", "straße in köln: heute"),
        ("\u212aelvin is a unit", "kelvin is a unit"),
        ("don’t «panic» now", "don t panic now"),
        ("मेरा ऑर्डर कहाँ है?", "मेरा ऑर्डर कहाँ है"),
        ("أين طلبي، من فضلك؟", "أين طلبي من فضلك"),
        ("注文した商品が届きません。", "注文した商品が、届きません"),
        ("ok " + "A" * 700, "OK: " + "a" * 700),
        ("", " ?! "),
        ("great", "great\ud800"),
    ],
)
def test_case_and_punctuation_do_not_count(one: str, other: str) -> None:
    assert similarity(one, other) == 1
    assert Deduplicator().add([one, other]).tolist() == [-1, 0]


@pytest.mark.parametrize(
    ("one", "other"),
    [("👍", "👎"), ("", "one"), ("one", "two"), ("one two", "two one"), ("मेरी", "मेरा"), ("", "😀")],
)
def test_different_words_count(one: str, other: str) -> None:
    assert similarity(one, other) == 0
    assert Deduplicator().add([one, other]).tolist() == [-1, -1]


def test_one_character_changed_in_japanese_is_near() -> None:
    text = "先週注文した商品がまだ届いていません。配送状況を教えていただけますでしょうか。"
    assert 0.8 < similarity(text, text.replace("先", "今")) < 1


def test_jaccard_is_the_shared_share() -> None:
    sets = [np.array(s, np.uint32) for s in ([1, 2, 3], [2, 3, 4], [], [9])]
    assert jaccard(sets[0], sets[1]) == pytest.approx(0.5)
    assert jaccard(sets[0], sets[0]) == 1
    assert jaccard(sets[0], sets[3]) == jaccard(sets[0], sets[2]) == 0
    assert jaccard(sets[2], sets[2]) == 1


def test_the_earliest_of_near_texts_is_named() -> None:
    words = WORDS[:60]
    changed = text_of([*words[:-1], "changed"])
    texts = [text_of(words), "something else entirely", changed, text_of(words)]
    assert Deduplicator().add(texts).tolist() == [-1, -1, 0, 0]


def test_a_duplicate_counts_as_an_earlier_text_itself() -> None:
    texts = [text_of(WORDS[i : i + 50]) for i in (0, 4, 8)]
    assert similarity(texts[0], texts[2]) < THRESHOLD
    assert Deduplicator().add(texts).tolist() == [-1, 0, 1]


def test_a_similarity_of_exactly_the_threshold_counts() -> None:
    texts = [text_of(WORDS[:11]), text_of(WORDS[:10])]  # 9 and 8 shingles
    assert similarity(*texts) == 8 / 9
    assert Deduplicator(8 / 9).add(texts).tolist() == [-1, 0]
    assert Deduplicator(0.89).add(texts).tolist() == [-1, -1]


@given(few_texts)
@settings(deadline=None)
def test_nearest_is_what_the_rule_says(texts: list[str]) -> None:
    assert Deduplicator().add(texts).tolist() == slow_nearest(texts)


@given(few_texts, st.lists(st.integers(0, 25)))
@settings(deadline=None)
def test_any_batches_give_the_same(texts: list[str], cuts: list[int]) -> None:
    whole = Deduplicator().add(texts).tolist()
    seen, found = Deduplicator(), list[int]()
    edges = sorted({0, len(texts), *(c for c in cuts if c < len(texts))})
    for begin, end in pairwise(edges):
        found += seen.add(texts[begin:end]).tolist()
    assert found == whole
    assert Deduplicator().add_shingles(shingles(texts)).tolist() == whole


def template_tickets(n: int) -> list[str]:
    """Tickets of one template, of a mutual similarity near .5, each third one near to another."""
    rng = random.Random(3)
    texts: list[str] = []
    for i in range(n):
        if i % 3 == 2:
            words = rng.choice(texts).split()
            words[rng.randrange(len(words))] = "changed"
        else:
            words = [*WORDS[:66], *rng.choices(WORDS, k=33)]
        texts.append(text_of(words))
    return texts


def test_large_batches_give_the_same_as_small_ones_for_templates() -> None:
    texts = template_tickets(3000)
    whole = Deduplicator().add(texts)
    seen = Deduplicator()
    parts = [seen.add(texts[i : i + 37]) for i in range(0, len(texts), 37)]
    assert np.array_equal(np.concatenate(parts), whole)
    assert (whole[2::3] >= 0).mean() > 0.97
    for i in np.flatnonzero(whole >= 0)[:200]:
        assert similarity(texts[i], texts[whole[i]]) >= THRESHOLD


def test_a_hundred_thousand_equal_texts_are_quick_and_small() -> None:
    texts = [text_of(WORDS[:12])] * 100_000
    seen = Deduplicator()
    tracemalloc.start()
    began = time.process_time()
    nearest = seen.add(texts)
    taken = time.process_time() - began
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert nearest[0] == -1
    assert not nearest[1:].any()
    assert taken < 20
    assert peak < 100_000 * 1000


def test_pairs_over_the_threshold_are_found() -> None:
    rng = random.Random(7)
    texts = []
    for _ in range(1000):
        words = rng.choices(WORDS, k=80)
        changed = [*words[:-6], *rng.sample(WORDS, 6)]
        texts += [text_of(words), text_of(changed)]
    near = Deduplicator().add(texts)[1::2] == np.arange(0, 2000, 2)
    assert near.mean() > 0.985


edges = st.lists(st.tuples(st.integers(0, 19), st.integers(0, 19)), max_size=25)


@given(edges)
def test_components_are_named_by_their_lowest_row(pairs: list[tuple[int, int]]) -> None:
    slow = list(range(20))
    for _ in slow:
        for a, b in pairs:
            slow[a] = slow[b] = min(slow[a], slow[b])
    assert components(np.array(pairs, np.int64).reshape(-1, 2), 20).tolist() == slow


def test_components_of_a_long_chain_are_quick() -> None:
    chain = np.stack((np.arange(100_000), np.arange(1, 100_001)), 1)
    np.random.default_rng(1).shuffle(chain)
    began = time.process_time()
    assert not components(chain, 100_001).any()
    assert time.process_time() - began < 5
