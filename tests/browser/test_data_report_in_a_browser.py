"""The data report as a person sees it: drawn, readable, within the window, and loading nothing."""

from __future__ import annotations

import io
from itertools import islice
from pathlib import Path

import msgspec
import pytest
from toktok import batch_count

from dropforge.artifacts import CleanManifest, DatasetManifest, Source
from dropforge.chat import encode_lines
from dropforge.clean import Cleaning
from dropforge.clean.prepare import Rules
from dropforge.cost import estimates
from dropforge.export import read
from dropforge.project import parse_project
from dropforge.validate import ENCODINGS, Part, build_dataset
from dropforge.validate.report import SAMPLE, DataReport, describe
from dropforge.validate.report_page import render
from dropforge.validate.split import SPLITS
from tests.support.browser import Page
from tests.support.looks import assert_whole

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def report() -> DataReport:
    """The report of the sample export."""
    config = parse_project("orrinvale", (EXAMPLES / "project.yaml").read_bytes())
    cleaning, part = Cleaning(Rules.of(config)), io.BytesIO()
    export = EXAMPLES / "tickets.csv"
    with export.open("rb") as file:
        for batch in cleaning.batches(read(file)):
            part.write(encode_lines(batch.kept))
    source = Source("bucket", "exports/orrinvale/tickets.csv", "v", "s", export.stat().st_size)
    found = msgspec.structs.asdict(cleaning.summary())
    cleaned = CleanManifest(project="orrinvale", hash="c", source=source, format="csv", **found)
    dataset = build_dataset([Part("c", part)], config, batch_count)
    manifest = DatasetManifest(
        project="orrinvale",
        hash="d" * 64,
        parts=("c",),
        examples=dataset.counts,
        tokens={split: dataset.tokens(split) for split in SPLITS},
        read=dataset.read,
        left_out=dataset.left_out_by_reason,
        warnings=dataset.warnings,
        train_tokens={encoding: dataset.tokens("train", encoding) for encoding in ENCODINGS},
    )
    sample = list(islice(dataset.examples("train"), SAMPLE))
    lengths = [entry.tokens[0] for entry in dataset.splits["train"]]
    return describe(manifest, [cleaned], sample, lengths, estimates(config, manifest.train_tokens))


@pytest.fixture(scope="module")
def path(report: DataReport, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(render(report))
    return path


@pytest.fixture
def opened(page: Page, path: Path) -> Page:
    page.resize(1000)
    page.open(path)
    return page


def test_report_is_drawn_without_a_complaint(opened: Page, report: DataReport) -> None:
    heads = opened.ask("[...document.querySelectorAll('h2')].map(h => h.textContent)")
    for head in ("At a glance", "Ready to train on?", "What was dropped, by rule", "The split"):
        assert head in heads
    assert f"{report.kept:,} of {report.read:,} rows" in opened.ask("document.body.innerText")


def test_report_fits_every_window_and_fetches_nothing(opened: Page) -> None:
    assert_whole(opened)


def test_bars_are_as_long_as_what_they_count(opened: Page, report: DataReport) -> None:
    lengths = opened.ask("""(() => {
        const head = [...document.querySelectorAll('h2')]
            .find(h => h.textContent === 'What was dropped, by rule');
        return [...head.nextElementSibling.querySelectorAll('rect.bar')]
            .map(bar => bar.getBoundingClientRect().width);
    })()""")
    counts = list(report.rejected.values())
    assert len(lengths) == len(counts)
    for length, count in zip(lengths, counts, strict=True):
        assert length / lengths[0] == pytest.approx(count / counts[0], abs=0.02)
