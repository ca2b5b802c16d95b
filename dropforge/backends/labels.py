"""People's labels, and how judges agree with them, in the registry.

`label#<pair>#<who>` is one person's label of one pair (taken back: without an outcome), and
`agreement#<judge version>` what all labels of the project say of a judge: {labels, agreement
{point, low, high}, kappa, opposite, unscored, at}.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import msgspec

from dropforge.artifacts import Agreement, Interval, batch_name, dataset_key, evaluation_key
from dropforge.backends.registry import Registry
from dropforge.backends.store import Store
from dropforge.calibration import Calibration, Label, calibrate
from dropforge.chat import decode_examples
from dropforge.errors import NoDataError
from dropforge.judge import Sample
from dropforge.judge.questions import TURNS

_AT_ONCE = 8
_TRIES = 20
_SPOKEN = {"user": "customer", "assistant": "agent"}
_SAMPLES = msgspec.json.Decoder(Sample)


class Labels:
    """Labels are written one by one, so whatever ends a person's session loses none."""

    def __init__(self, store: Store, registry: Registry) -> None:
        self._store = store
        self._registry = registry

    def newest(self, project: str) -> str:
        """The hash of the project's newest evaluation.

        Raises:
            NoDataError: there is none yet.
        """
        found = self._registry.items(project, "evaluation#")
        if not found:
            raise NoDataError(
                f"{project} has no evaluation yet, so there is nothing to label.",
                hint=f"`dropforge status -p {project}` tells how far it is.",
            )
        return str(max(found, key=lambda evaluation: evaluation["at"])["hash"])

    def samples(self, project: str, evaluation: str | None = None) -> list[Sample]:
        """What an evaluation judged, the newest one's where none is named.

        Raises:
            NoDataError: there is no evaluation, or nothing of it is in the bucket any more.
        """
        address = evaluation or self.newest(project)
        found: list[Sample] = []
        index = 0
        while data := self._store.find(evaluation_key(project, address, batch_name(index))):
            found += _SAMPLES.decode_lines(data)
            index += 1
        if not found:
            raise NoDataError(f"The judged tickets of evaluation {address[:12]} are gone.")
        return found

    def earlier(self, project: str, evaluation: str) -> dict[str, str]:
        """By ticket, the turns before the question that the judges saw as well, where any were.

        Empty where the dataset that the tickets are of is gone.
        """
        item = self._registry.get(project, f"evaluation#{evaluation}") or {}
        data = self._store.find(dataset_key(project, str(item.get("dataset")), "test.jsonl"))
        turns = {e.id: e.prompt[-TURNS:] for e in decode_examples(data or b"")}
        found = {}
        for ticket, seen in turns.items():
            last = max((i for i, m in enumerate(seen) if m.role == "user"), default=0)
            if before := [m for m in seen[:last] if m.role in _SPOKEN]:
                found[ticket] = "\n".join(f"{_SPOKEN[m.role]}: {m.content}" for m in before)
        return found

    def labels(self, project: str) -> list[Label]:
        """Every label of the project, those taken back too."""
        items = self._registry.items(project, "label#")
        return [msgspec.convert(item, Label, strict=False) for item in items]

    def save(self, project: str, label: Label) -> None:
        """Keep a label; it replaces what the same person said of the same pair before."""
        sk = f"label#{label.pair}#{label.who}"
        self._registry.put(project, sk, msgspec.to_builtins(label))

    def recompute(self, project: str, *, also: Sequence[Sample] = ()) -> dict[str, Agreement]:
        """Every judge's agreement with all labels of the project, kept and returned.

        Args:
            also: what was judged just now, of an evaluation that the registry does not know yet.
        """
        found = self.calibrate(project, also=also)
        return {judge: one.agreement for judge, one in found.items()}

    def calibrate(self, project: str, *, also: Sequence[Sample] = ()) -> dict[str, Calibration]:
        """As `recompute`, with the counts beside the agreement.

        Labels that somebody else saves meanwhile are taken in: what is kept at the end is the
        agreement with all of them, whoever writes last.
        """
        labels = self.labels(project)
        samples = [*self._all_samples(project), *also] if labels else []
        for _ in range(_TRIES):
            found = calibrate(labels, samples)
            self._keep(project, found)
            before, labels = labels, self.labels(project)
            if labels == before:
                break
            samples = samples or [*self._all_samples(project), *also]
        return found

    def _all_samples(self, project: str) -> list[Sample]:
        """Of every evaluation that is still there, the oldest first."""
        items = sorted(self._registry.items(project, "evaluation#"), key=lambda item: item["at"])
        hashes = [str(item["hash"]) for item in items]

        def read(address: str) -> list[Sample]:
            try:
                return self.samples(project, address)
            except NoDataError:
                return []

        with ThreadPoolExecutor(_AT_ONCE) as pool:
            return [sample for samples in pool.map(read, hashes) for sample in samples]

    def _keep(self, project: str, found: dict[str, Calibration]) -> None:
        before = {
            str(item["sk"]).partition("#")[2]
            for item in self._registry.items(project, "agreement#")
        }
        nothing = Calibration(Agreement(0, Interval(0.5, 0.0, 1.0), 0.0))
        for judge in before | found.keys():
            one = found.get(judge, nothing)
            item = {
                **msgspec.to_builtins(one.agreement),
                "opposite": one.opposite,
                "unscored": one.unscored,
                "at": time.time(),
            }
            self._registry.put(project, f"agreement#{judge}", item)

    def agreement(self, project: str, judge: str) -> Agreement | None:
        """What is kept about a judge version; None where people have labelled no pair of its."""
        item = self._registry.get(project, f"agreement#{judge}")
        if not item or not item["labels"]:
            return None
        return msgspec.convert(item, Agreement, strict=False)
