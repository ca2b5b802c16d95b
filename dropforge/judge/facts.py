"""Facts: what of an answer can be checked against the reference without understanding it."""

from __future__ import annotations

import re

_FACT = re.compile(
    r"[\w.+-]{1,64}@[\w-]+\.[\w.-]*\w|(?:https?://|www\.)\S*\w|[$€£₹]\s?\d[\d.,]*\d|[$€£₹]\s?\d"
    r"|\b\w*\d(?:[\w.,:/-]*\w)?\s?%?|\b[A-Z]{2,}(?:-\w+)*\b"
)


def facts(text: str) -> frozenset[str]:
    """What can be checked in an answer: numbers, prices, times, codes, addresses, acronyms.

    Placeholders of redacted data ([EMAIL_1]) are no facts.
    """
    plain = re.sub(r"\[[A-Z_]+_\d+\]", " ", text)
    return frozenset(re.sub(r"[\s,]", "", found).casefold() for found in _FACT.findall(plain))


def fact_recall(reference: str, answer: str) -> float | None:
    """The share of the reference's facts that the answer states; None where it has none."""
    wanted = facts(reference)
    return len(wanted & facts(answer)) / len(wanted) if wanted else None
