"""Scores of an answer against the agent's own, by arithmetic: beside the judge, never instead."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import sqrt

CHRF_ORDER, CHRF_BETA = 6, 2


def chrf(answer: str, reference: str) -> float:
    """Character n-gram F-score, 0 to 1.

    Popović, "chrF: character n-gram F-score for automatic MT evaluation" (2015): n from 1 to 6,
    recall weighed twice as much as precision, white space left out. Equal to sacrebleu's `chrF2`
    of a sentence, divided by 100.
    """
    said, wanted = ("".join(text.split()) for text in (answer, reference))
    precisions, recalls = [], []
    for n in range(1, CHRF_ORDER + 1):
        ours, theirs = _ngrams(said, n), _ngrams(wanted, n)
        if not ours or not theirs:
            continue
        shared = (ours & theirs).total()
        precisions.append(shared / ours.total())
        recalls.append(shared / theirs.total())
    if not precisions:
        return 0.0
    precision, recall = (sum(listed) / len(listed) for listed in (precisions, recalls))
    weighed = CHRF_BETA**2 * precision + recall
    return (1 + CHRF_BETA**2) * precision * recall / weighed if weighed else 0.0


def _ngrams(text: str, n: int) -> Counter[str]:
    return Counter(text[i : i + n] for i in range(len(text) - n + 1))


def cosine(one: Sequence[float], other: Sequence[float]) -> float:
    """The cosine of two embeddings, 0 where it is negative or one of them has no length."""
    length = sqrt(sum(x * x for x in one)) * sqrt(sum(x * x for x in other))
    product = sum(x * y for x, y in zip(one, other, strict=True))
    return min(1.0, max(0.0, product / length)) if length else 0.0
