"""Ensembles of simulated models: how often the given answer is right, against one model alone.

A model here is right with a known probability. It says the reference in other words; where it is
wrong, with another fact in it, or it gives another ticket's answer. A share of the wrong answers is
the same mistake, as models of one family make them. Votes and ballots are those of the product, and
the judge reads the ballot as it is sent.
"""

from __future__ import annotations

import csv
import io
import random
import re
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

from benchmarks.figures import ROOT, Figure
from dropforge.serve.ensemble import ballot, chosen, shuffled, vote
from dropforge.statistics.intervals import wilson

QUESTIONS = 4000
JUDGE_RIGHT = 0.8
"""How often the simulated judge finds a right answer where there is one; else it picks blindly."""
SAME_MISTAKE = 0.3
_SWAPS = {"please": "kindly", "are": "will be", "free": "free of charge", "within": "in under"}
_OPENINGS = ("", "Hello! ", "Thanks for asking. ", "Sure: ")
_ENDINGS = ("", " Have a good day.", " Write again any time.", " Best wishes")


class Answer(NamedTuple):
    text: str
    right: bool

    @property
    def completion(self) -> dict[str, Any]:
        """As a model's server sends it."""
        message = {"role": "assistant", "content": self.text}
        return {"choices": [{"message": message, "finish_reason": "stop"}]}


def figures() -> Iterator[Figure]:
    """Share of right answers: one model, votes of three and five, the best of three by a judge."""
    references = _references()
    for skill in (0.6, 0.7, 0.8):
        rng = random.Random(round(skill * 100))
        right = dict.fromkeys(("one", "three", "five", "judge"), 0)
        for number in range(QUESTIONS):
            answers = _answers(rng, references, skill, 5)
            right["one"] += answers[0].right
            for name, n in (("three", 3), ("five", 5)):
                place = vote([one.completion for one in answers[:n]]).place
                right[name] += answers[place].right
            right["judge"] += _judged(rng, f"q{number}", answers[:3]).right
        shown = {name: _shown(count) for name, count in right.items()}
        yield Figure(
            f"right answers of simulated models, {skill:.0%} each: vote of 3, of 5",
            f"{shown['one']} → {shown['three']}, {shown['five']}",
            "above one model",
            min(right["three"], right["five"]) > right["one"],
        )
        yield Figure(
            f"the same: best of 3 by a judge that finds it in {JUDGE_RIGHT:.0%}",
            f"{shown['one']} → {shown['judge']}",
            "above one model",
            right["judge"] > right["one"],
        )
    yield _cost(references)


def _references() -> list[str]:
    text = (ROOT / "examples/tickets.csv").read_text("cp1252", "replace")
    answers = {row["answer"] or "" for row in csv.DictReader(io.StringIO(text, newline=""))}
    return sorted(answer for answer in answers if re.search(r"[1-9]", answer))


def _answers(rng: random.Random, references: list[str], skill: float, n: int) -> list[Answer]:
    reference, other = rng.sample(references, 2)
    shared = _mistaken(rng, reference, other)
    found = []
    for _ in range(n):
        if rng.random() < skill:
            found.append(Answer(_reworded(rng, reference), right=True))
            continue
        wrong = shared if rng.random() < SAME_MISTAKE else _mistaken(rng, reference, other)
        found.append(Answer(_reworded(rng, wrong), right=False))
    return found


def _mistaken(rng: random.Random, reference: str, other: str) -> str:
    if rng.random() < 0.3:
        return other
    number = rng.choice(re.findall(r"\d+", reference))
    wrong = str(int(number) + rng.choice((-3, -2, -1, 1, 2, 3, 10)))
    return reference.replace(number, wrong, 1)


def _reworded(rng: random.Random, text: str) -> str:
    words = [_SWAPS.get(w, w) if rng.random() < 0.5 else w for w in text.split()]
    words = [w for w in words if re.search(r"\d", w) or rng.random() > 0.08]
    return rng.choice(_OPENINGS) + " ".join(words) + rng.choice(_ENDINGS)


def _judged(rng: random.Random, request: str, answers: list[Answer]) -> Answer:
    order = shuffled(request, len(answers))
    ranked = [answers[place] for place in order]
    nonce = f"{rng.getrandbits(64):016x}"
    messages = ballot([{"role": "user", "content": "?"}], [a.text for a in ranked], nonce)
    fence = re.compile(rf'<answer_(\w) nonce="{nonce}">\n(.*?)\n</answer_\1', re.DOTALL)
    seen = [letter for letter, _ in fence.findall(messages[-1]["content"])]
    good = [letter for letter, answer in zip(seen, ranked, strict=True) if answer.right]
    reply = rng.choice(good if good and rng.random() < JUDGE_RIGHT else seen)
    place = chosen(reply, len(answers))
    return answers[0] if place is None else ranked[place]


def _shown(count: int) -> str:
    interval = wilson(count / QUESTIONS, QUESTIONS)
    return f"{count / QUESTIONS:.1%} [{interval.low:.1%}, {interval.high:.1%}]"


def _cost(references: list[str]) -> Figure:
    texts = [Answer(text * 8, right=True).completion for text in references[:3]]
    began = time.process_time()
    for _ in range(200):
        vote(texts)
    spent = (time.process_time() - began) / 200 * 1000
    letters = len(references[0] * 8)
    return Figure(f"a vote on three answers of {letters} characters that differ", f"{spent:.2f} ms")
