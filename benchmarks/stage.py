"""The clean stage as a whole.

Reads seeded synthetic exports (chats of 100 words a row; long conversations) from a temporary
folder; yields MB of export a CPU-second, by step, with and without redaction, the memory that
cleaning a gigabyte takes, and what the function's cold start is made of.
"""

from __future__ import annotations

import io
import json
import random
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate
from operator import attrgetter
from pathlib import Path
from pydoc_data.topics import topics
from statistics import median

from benchmarks.figures import ROOT, Figure
from dropforge.chat import encode_lines
from dropforge.clean import Cleaning, Repeats, Tally, in_batches, settled
from dropforge.clean.language import languages
from dropforge.clean.prepare import Candidate, Preparer, Rules
from dropforge.clean.quality import verdicts
from dropforge.clean.redact import Redactor, Scanned, scan
from dropforge.export import read

MB = 1_000_000
_SPOKEN = (
    "the to i you and it is a my for we of your in that this have not with on be can are was please"
    " will order but if has from what me our when they at so do as there been about would how all"
    " still just get which or any other after today delivery account refund number check sorry hi"
).split()


def vocabulary() -> list[str]:
    """English words by how frequent they are in the longest prose that Python carries: its manual.

    What a speaker says most, and a manual never, comes first.
    """
    manual = Counter(re.findall(r"[a-z]{2,}", " ".join(topics.values()).lower()))
    return list(dict.fromkeys([*_SPOKEN, *(word for word, _ in manual.most_common())]))


class Speech:
    """Makes sentences of Zipf-distributed words."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self._words = vocabulary()
        self._weights = list(accumulate(1 / (rank + 2.7) for rank in range(len(self._words))))

    def words(self, count: int) -> list[str]:
        return self.rng.choices(self._words, cum_weights=self._weights, k=count)

    def say(self, words: list[str]) -> str:
        """Sentences of up to 14 words, capitals and marks included."""
        parts, place = [], 0
        while place < len(words):
            size = self.rng.randint(6, 14)
            sentence = words[place : place + size]
            if len(sentence) > 9:
                sentence[4] += ","
            parts.append(" ".join(sentence).capitalize() + self.rng.choice("...?!"))
            place += size
        return " ".join(parts)

    def personal(self) -> str:
        """A sentence with a telephone number or an e-mail address."""
        rng = self.rng
        if rng.random() < 0.5:
            return f"You can call me at +1 415 555 {rng.randint(1000, 9999)} after lunch."
        return f"Write to {rng.choice(self._words)}{rng.randint(1, 999)}@mail.example please."


def chats(path: Path, rows: int, seed: int = 1) -> None:
    """Rows of about 100 words; 12 % near-duplicates, a fifth with personal data, some numbers."""
    speech = Speech(seed)
    rng, kept = speech.rng, list[list[str]]()
    with path.open("w", encoding="utf-8") as file:
        for number in range(rows):
            if kept and rng.random() < 0.12:
                words = list(rng.choice(kept))
                words[rng.randrange(len(words))] = "otherwise"
            else:
                words = speech.words(rng.randint(80, 120))
                kept = [*kept[-500:], words]
            cut = rng.randint(25, 50)
            asked, answer = speech.say(words[:cut]), speech.say(words[cut:])
            if rng.random() < 0.2:
                asked = f"{asked} {speech.personal()}"
            elif rng.random() < 0.3:
                asked = f"{asked} The order is {rng.randint(10**6, 10**7)}."
            turns = (("user", asked), ("assistant", answer))
            file.write(_line(f"chat-{number}", turns))


def conversations(path: Path, rows: int, seed: int = 2) -> None:
    """Rows of 8 to 16 turns of about 30 words, one in three with personal data."""
    speech = Speech(seed)
    rng = speech.rng
    with path.open("w", encoding="utf-8") as file:
        for number in range(rows):
            sizes = [rng.randint(8, 50) for _ in range(2 * rng.randint(4, 8))]
            texts = [speech.say(speech.words(size)) for size in sizes]
            if rng.random() < 0.33:
                texts[2] = f"{texts[2]} {speech.personal()}"
            turns = tuple(zip(("user", "assistant") * 8, texts, strict=False))
            file.write(_line(f"conversation-{number}", turns))


def _line(name: str, turns: tuple[tuple[str, str], ...]) -> str:
    messages = [{"role": role, "content": text} for role, text in turns]
    return json.dumps({"id": name, "messages": messages}) + "\n"


def large(path: Path, size: int, seed: int = 3) -> None:
    """So many bytes of chats, ten ready sentences to a row, hardly two rows alike."""
    speech = Speech(seed)
    rng = speech.rng
    sentences = [speech.say(speech.words(10)) for _ in range(20_000)]
    personal = [speech.personal() for _ in range(1000)]
    left, number = size, 0
    with path.open("w", encoding="utf-8") as file:
        while left > 0:
            said = rng.choices(sentences, k=10)
            if number % 5 == 0:
                said[2] = personal[number // 5 % 1000]
            turns = (("user", " ".join(said[:4])), ("assistant", " ".join(said[4:])))
            left -= file.write(_line(f"chat-{number}", turns))
            number += 1


class NoRedactor(Redactor):
    """Leaves texts as they are: what the rest of the stage costs."""

    def __call__(self, text: str) -> str:
        return text

    def conversation(self, texts: Sequence[str], scanned: Scanned | None = None) -> list[str]:
        return list(texts)


def clean(path: Path, redactor: Callable[..., Redactor] | None = None) -> float:
    """CPU-seconds of the whole stage, as the function runs it."""
    began = time.process_time()
    cleaning = Cleaning()
    cleaning._prepare = Preparer(Rules(), redactor)
    out = io.BytesIO()
    with path.open("rb") as file:
        for batch in cleaning.batches(read(file)):
            out.seek(0)
            out.write(encode_lines(batch.kept))
            out.write(encode_lines(batch.rejected))
    cleaning.summary()
    return time.process_time() - began


class Steps:
    """CPU-seconds of each step, in the order they come."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        began = time.process_time()
        yield
        self.seconds[name] = self.seconds.get(name, 0) + time.process_time() - began


def steps(path: Path) -> dict[str, float]:
    """CPU-seconds of each step of `Preparer` and `Cleaning`, done one after another."""
    step, tally, repeats = Steps(), Tally(), Repeats()
    preparer = Preparer(Rules(), NoRedactor)
    with path.open("rb") as file:
        batches = in_batches(read(file))
        while True:
            with step("read"):
                rows = next(batches, None)
            if rows is None:
                return step.seconds
            with step("normalise and strip"):
                shaped = preparer._shaped(rows)
            good = [row for row in shaped if isinstance(row, tuple)]
            with step("quality"):
                said, asked = map(attrgetter("said"), good), [row.asked for row in good]
                poor = verdicts(list(said), asked, 2)
            with step("language"):
                spoken = languages(asked)
            with step("redact"):
                seen = scan([row.texts for row in good])
                for row, scanned in zip(good, seen, strict=True):
                    Redactor(row.conversation.names).conversation(row.texts, scanned)
            with step("examples and their ids"):
                known = zip(good, poor, spoken, strict=True)
                prepared = [preparer._judged(row, why, code) for row, why, code in known]
            with step("repeats"):
                repeated = repeats.among([row for row in prepared if isinstance(row, Candidate)])
            with step("count"):
                batch = settled(prepared, repeated, tally)
            with step("encode"):
                encode_lines(batch.kept), encode_lines(batch.rejected)


def best(run: Callable[[], float], times: int = 3) -> float:
    """The quickest of some runs: the machine may be busy."""
    return min(run() for _ in range(times))


def speed_figures(folder: Path) -> Iterator[Figure]:
    """MB a CPU-second of both kinds of export."""
    for name, make, rows in (
        ("chats of 100 words", chats, 20_000),
        ("long conversations", conversations, 5_000),
    ):
        path = folder / f"{make.__name__}.jsonl"
        make(path, rows)
        size = path.stat().st_size / MB
        clean(path)  # loads the model, fills caches
        with_, without = best(lambda: clean(path)), best(lambda: clean(path, NoRedactor))  # noqa: B023
        of_steps = [steps(path) for _ in range(3)]
        for label, seconds, asked in (("with", with_, 10), ("without", without, 80)):
            measured = f"{size / seconds:.1f} MB/s"
            at_least = f"at least {asked} MB/s"
            title = f"clean stage {label} redaction, {name}, a CPU-second"
            yield Figure(title, measured, at_least, size / seconds >= asked)
        parts = {part: min(one[part] for one in of_steps) for part in of_steps[0]}
        yield Figure(
            f"its steps, {name}, MB a CPU-second (share of the time)",
            ", ".join(
                f"{part} {size / seconds:.0f} ({seconds / sum(parts.values()):.0%})"
                for part, seconds in parts.items()
            ),
        )


def memory_figures(folder: Path) -> Iterator[Figure]:
    """Peak memory and time of cleaning a gigabyte, in a process of its own."""
    path = folder / "large.jsonl"
    size = 1000 * MB
    large(path, size)
    began = time.monotonic()
    done = _python("-m", "benchmarks.stage", str(path))
    wall = time.monotonic() - began
    peak = int(done.split()[-1]) / 1024
    name = f"peak memory of cleaning {size // MB:,} MB"
    yield Figure(name, f"{peak:,.0f} MB", "under 3,000 MB", peak < 3000)
    yield Figure(f"time of cleaning {size // MB:,} MB", f"{wall:.0f} s", "under 240 s", wall < 240)


def start_figures() -> Iterator[Figure]:
    """What the clean function's cold start costs: imports in a new interpreter, and the model."""
    timed = (
        "import time; began = time.perf_counter(); import lambdas.clean.handler;"
        " print(time.perf_counter() - began)"
    )
    _python("-c", timed)  # compiles
    seconds = median(float(_python("-c", timed)) for _ in range(5))
    told = _python("-X", "importtime", "-c", "import lambdas.clean.handler")
    of_package: Counter[str] = Counter()
    for own, module in re.findall(r"import time:\s+(\d+) \|\s+\d+ \|\s+([\w.]+)", told):
        of_package[module.split(".")[0]] += int(own)
    largest = ", ".join(f"{name} {own / 1000:.0f} ms" for name, own in of_package.most_common(6))
    yield Figure("cold start of clean: imports, median of 5", f"{1000 * seconds:.0f} ms; {largest}")
    model = "; ".join(
        (
            "import time; from dropforge.clean.language import _model; began = time.perf_counter()",
            "_model(); print(time.perf_counter() - began)",
        )
    )
    loaded = median(float(_python("-c", model)) for _ in range(5))
    yield Figure("cold start of clean: language model, median of 5", f"{1000 * loaded:.0f} ms")


def _python(*arguments: str) -> str:
    """What it prints to both streams."""
    return subprocess.check_output(
        [sys.executable, *arguments], cwd=ROOT, stderr=subprocess.STDOUT, text=True
    )


def figures() -> Iterator[Figure]:
    """Everything; under five minutes."""
    with tempfile.TemporaryDirectory(prefix="dropforge-bench-") as folder:
        yield from start_figures()
        yield from speed_figures(Path(folder))
        yield from memory_figures(Path(folder))


if __name__ == "__main__":
    clean(Path(sys.argv[1]))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
