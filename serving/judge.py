"""`reference-judge`: compares two answers with a reference answer by arithmetic. It is not a
language model.

It stands behind the same chat protocol as a real judge, so that a pipeline can be run and tested
without one. It reads the two answers and the reference from their fences and scores each answer as

    score = 1/2 cosine(answer, reference)     MiniLM sentence embeddings
          + 1/2 chrF(answer, reference)       character n-grams, sacrebleu's defaults, 0 to 1
          + recall of the reference's facts   numbers, prices, codes, e-mail addresses and
          capitalised names; 0 to 1

The higher score wins; a difference under 0.05 is a tie. What it cannot do: tell whether an answer
that differs from the reference is right too, notice a contradiction that keeps the reference's
words, or follow a rubric. It treats both places alike: swapping A and B swaps the winner and
nothing else.

Confidence is 1 / (1 + exp(-4 * difference)) for a winner, from 0.55 at the tie limit to 0.98 at a
difference of 1; for a tie it falls from 0.95 at no difference to 0.5 at the limit. It grows with
the evidence, but is not calibrated.
"""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

from serving.embeddings import Embedder

JUDGE_MODEL = "reference-judge"
TIE = 0.05
FENCES = ("question", "reference", "answer_a", "answer_b")

_EMAIL = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+")
_CODE = re.compile(
    r"\b(?=[\w-]*\d)(?=[\w-]*[A-Za-z])[A-Za-z0-9]+(?:-[A-Za-z0-9]+)*\b|\b[A-Z]{2,}\b"
)
_NUMBER = re.compile(r"\d+(?:[.,:]\d+)*")
_NAME = re.compile(r"[A-Z][\w'’-]+(?:\s+[A-Z][\w'’-]+)*")
_SENTENCE_START = re.compile(r"(?:^|[.!?:;]\s+|\n\s*)[\"'(*-]*\s*$")
_WORDS = {
    word: str(number)
    for number, word in enumerate(
        [
            "two",
            "three",
            "four",
            "five",
            "six",
            "seven",
            "eight",
            "nine",
            "ten",
            "eleven",
            "twelve",
            "thirteen",
            "fourteen",
            "fifteen",
            "sixteen",
            "seventeen",
            "eighteen",
            "nineteen",
            "twenty",
        ],
        start=2,
    )
} | {"thirty": "30", "forty": "40", "fifty": "50", "sixty": "60", "ninety": "90", "hundred": "100"}


class MalformedPromptError(Exception):
    """The prompt does not hold the four fenced parts, each once, under one nonce."""


@dataclass(frozen=True)
class Question:
    """What a judge prompt holds between its fences."""

    question: str
    reference: str
    answer_a: str
    answer_b: str


@dataclass(frozen=True)
class Score:
    """How close an answer is to the reference; `recall` is None if that states no fact."""

    cosine: float
    chrf: float
    recall: float | None

    @property
    def total(self) -> float:
        """From 0 (nothing in common) to 2."""
        return (self.cosine + self.chrf) / 2 + (self.recall or 0.0)

    def __str__(self) -> str:
        recall = "none" if self.recall is None else f"{self.recall:.2f}"
        return f"{self.total:.3f} (cosine {self.cosine:.3f}, chrF {self.chrf:.3f}, facts {recall})"


def parse_prompt(text: str) -> Question:
    """The fenced parts of a judge prompt.

    The nonce is the one of the first question fence; it comes before anything a candidate wrote,
    and a candidate cannot know it. Fences with another nonce are text.

    Raises:
        MalformedPromptError: a fence is missing, open, or there twice.
    """
    first = re.search(r'^<question nonce="([^"\n]+)">', text, re.MULTILINE)
    if first is None:
        raise MalformedPromptError('the prompt holds no line <question nonce="...">')
    nonce = re.escape(first[1])
    parts = {}
    for name in FENCES:
        pattern = rf'^<{name} nonce="{nonce}">(.*?)</{name} nonce="{nonce}">[ \t]*$'
        found = re.findall(pattern, text, re.MULTILINE | re.DOTALL)
        if len(found) != 1:
            raise MalformedPromptError(f"the prompt must hold one <{name}> fence, not {len(found)}")
        parts[name] = plain(found[0])
    return Question(**parts)


def plain(text: str) -> str:
    """A text without invisible characters, in one Unicode form."""
    visible = "".join(c for c in text if unicodedata.category(c) != "Cf")
    return unicodedata.normalize("NFKC", visible).strip()


def facts(text: str) -> set[str]:
    """The facts a text states: e-mail addresses, codes, numbers (12.50 for $12.50, 3 for three),
    capitalised names.

    A word at the start of a sentence is no name on account of its capital.
    """
    found = set()
    for pattern in (_EMAIL, _CODE):
        found |= {match[0].lower() for match in pattern.finditer(text)}
        text = pattern.sub(" ", text)
    found |= {_number(match[0]) for match in _NUMBER.finditer(text)}
    found |= {_WORDS[word] for word in re.findall(r"[a-z]+", text.lower()) if word in _WORDS}
    return found | set(_names(text))


def _number(text: str) -> str:
    """1,200 and 1200, 5.00 and 5 are the same number; 9:30 stays a time."""
    text = re.sub(r",(?=\d{3}\b)", "", text)
    return re.sub(r"[.,]0+$", "", text)


def _names(text: str) -> Iterator[str]:
    for match in _NAME.finditer(text):
        words = match[0].split()
        if _SENTENCE_START.search(text[: match.start()]):
            words = words[1:]
        if words:
            yield " ".join(words).lower()


def recall(answer: str, reference: str) -> float | None:
    """The share of the reference's facts that the answer states; None if there is none to state."""
    wanted = facts(reference)
    if not wanted:
        return None
    stated, lowered = facts(answer), f" {' '.join(answer.lower().split())} "
    hits = [
        fact in stated or (not fact[0].isdigit() and re.search(rf"\b{re.escape(fact)}\b", lowered))
        for fact in wanted
    ]
    return sum(map(bool, hits)) / len(wanted)


class ReferenceJudge:
    """Answers judge prompts with JSON; the same prompt always gets the same answer."""

    def __init__(self, embedder: Embedder) -> None:
        from sacrebleu.metrics.chrf import CHRF

        self._embedder = embedder
        self._chrf = CHRF()

    def answer(self, prompt: str) -> str:
        """The verdict on a judge prompt: {"winner", "confidence", "rationale"}.

        Raises:
            MalformedPromptError: the prompt is not in the form this judge reads.
        """
        asked = parse_prompt(prompt)
        a = self.score(asked.answer_a, asked.reference)
        b = self.score(asked.answer_b, asked.reference)
        difference = abs(a.total - b.total)
        tie = difference < TIE
        winner = "tie" if tie else "A" if a.total > b.total else "B"
        sure = 0.95 - 0.45 * difference / TIE if tie else 1 / (1 + math.exp(-4 * difference))
        verdict = {
            "winner": winner,
            "confidence": round(sure, 3),
            "rationale": f"By closeness to the reference: A {a}, B {b}.",
        }
        return json.dumps(verdict)

    def score(self, answer: str, reference: str) -> Score:
        """How close an answer is to the reference; an empty answer is not close at all."""
        if not answer:
            return Score(0.0, 0.0, recall(answer, reference))
        return Score(
            max(0.0, self._embedder.cosine(answer, reference)),
            self._chrf.sentence_score(answer, [reference]).score / 100,
            recall(answer, reference),
        )
