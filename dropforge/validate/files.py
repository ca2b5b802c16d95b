"""The files of a dataset: its splits, what was left out, the data report.

Writes `{train,validation,test}.jsonl`, `left-out.jsonl`, `report.json` and `report.html` into a
folder, from where they go to `validate/<project>/<hash>/`; the manifest comes last, and apart.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import msgspec

from dropforge.artifacts import CleanManifest, DatasetManifest, Estimate
from dropforge.chat import decode_example
from dropforge.validate import ENCODINGS, Dataset, left_out_lines
from dropforge.validate.report import SAMPLE, describe
from dropforge.validate.report_page import render
from dropforge.validate.split import SPLITS


def dataset_manifest(
    project: str, address: str, parts: Sequence[str], dataset: Dataset
) -> DatasetManifest:
    """What `manifest.json` says of a dataset."""
    return DatasetManifest(
        project=project,
        hash=address,
        parts=tuple(parts),
        examples=dataset.counts,
        tokens={split: dataset.tokens(split) for split in SPLITS},
        read=dataset.read,
        left_out=dataset.left_out_by_reason,
        warnings=dataset.warnings,
        train_tokens={encoding: dataset.tokens("train", encoding) for encoding in ENCODINGS},
    )


def written(
    folder: Path,
    manifest: DatasetManifest,
    dataset: Dataset,
    cleaned: Sequence[CleanManifest],
    estimates: tuple[Estimate, ...],
) -> Iterator[Path]:
    """Write each file into the folder; yields its path."""
    for split in SPLITS:
        path = folder / f"{split}.jsonl"
        with path.open("wb") as file:
            file.writelines(dataset.lines(split))
        yield path
    path = folder / "left-out.jsonl"
    with path.open("wb") as file:
        file.writelines(left_out_lines(dataset.left_out))
    yield path
    with (folder / "train.jsonl").open("rb") as file:
        sample = [decode_example(line) for line in islice(file, SAMPLE)]
    lengths = [entry.tokens[0] for entry in dataset.splits["train"]]
    report = describe(manifest, cleaned, sample, lengths, estimates)
    path = folder / "report.json"
    path.write_bytes(msgspec.json.encode(report))
    yield path
    path = folder / "report.html"
    path.write_text(render(report), "utf-8")
    yield path
