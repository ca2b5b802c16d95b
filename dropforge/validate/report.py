"""The data report: what came in, what was dropped and why, and whether it is worth training on.

Reads manifests and a sample of the dataset; writes `report.json` and `report.html`, one page that
loads nothing. All text in it has been redacted.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

import msgspec

from dropforge.artifacts import CleanManifest, Cluster, DatasetManifest, Estimate, Excerpt
from dropforge.chat import ChatExample
from dropforge.models import PRICED
from dropforge.validate.readiness import Finding, findings

SAMPLE = 2_000
"""Training examples looked at for topics and readiness."""


class File(msgspec.Struct, frozen=True):
    """One dropped file."""

    name: str
    format: str
    read: int
    kept: int


class Histogram(msgspec.Struct, frozen=True):
    """Counts of values in [i * width, (i + 1) * width); the last column holds all above as well."""

    width: int
    counts: tuple[int, ...]
    median: int
    longest: int


class DataReport(msgspec.Struct, frozen=True):
    """All that the page shows, as data."""

    project: str
    dataset: str
    files: tuple[File, ...]
    read: int
    kept: int
    rejected: dict[str, int]
    excerpts: dict[str, tuple[Excerpt, ...]]
    clusters: tuple[Cluster, ...]
    cluster_sizes: dict[int, int]
    redacted_rows: dict[str, int]
    repaired: dict[str, int]
    languages: dict[str, int]
    topics: dict[str, int]
    topics_found: bool
    examples: dict[str, int]
    tokens: dict[str, int]
    left_out: dict[str, int]
    token_lengths: Histogram
    answer_lengths: Histogram
    turns: dict[str, int]
    estimates: tuple[Estimate, ...]
    priced: str
    readiness: tuple[Finding, ...]
    warnings: tuple[str, ...]


def describe(
    manifest: DatasetManifest,
    cleaned: Iterable[CleanManifest],
    sample: Sequence[ChatExample],
    token_lengths: Sequence[int],
    estimates: tuple[Estimate, ...],
) -> DataReport:
    """Put the report's figures together.

    Args:
        cleaned: what cleaning made of each of the dataset's files.
        sample: training examples, `SAMPLE` of them at most.
        token_lengths: tokens of each training example.
    """
    sources = list(cleaned)
    read, kept = sum(c.read for c in sources), sum(c.kept for c in sources)
    rejected = _sum(c.rejected for c in sources)
    topics = _sum(c.topics for c in sources)
    return DataReport(
        project=manifest.project,
        dataset=manifest.hash,
        files=tuple(
            File(c.source.key.split("/", 2)[-1], c.format, c.read, c.kept) for c in sources
        ),
        read=read,
        kept=kept,
        rejected=rejected,
        excerpts=_excerpts(sources),
        clusters=tuple(sorted((c for s in sources for c in s.clusters), key=_by_repeats)[:10]),
        cluster_sizes=_sizes(sources),
        redacted_rows=_sum(c.redacted_rows for c in sources),
        repaired=_sum(c.repaired for c in sources),
        languages=_sum(c.languages for c in sources),
        topics=topics or topics_of(sample),
        topics_found=not topics,
        examples=manifest.examples,
        tokens=manifest.tokens,
        left_out=manifest.left_out,
        token_lengths=histogram(token_lengths),
        answer_lengths=histogram([len(example.reference) for example in sample]),
        turns={str(n): k for n, k in sorted(Counter(len(e.messages) for e in sample).items())},
        estimates=estimates,
        priced=PRICED,
        readiness=findings(manifest, read, kept, rejected, sample),
        warnings=manifest.warnings,
    )


def _by_repeats(cluster: Cluster) -> tuple[int, int]:
    return -cluster.repeats, cluster.position


def _sum(counts: Iterable[dict[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for one in counts:
        total.update(one)
    return dict(sorted(total.items(), key=lambda item: (-item[1], item[0])))


def _sizes(sources: Iterable[CleanManifest]) -> dict[int, int]:
    total: Counter[int] = Counter()
    for source in sources:
        total.update(source.cluster_sizes)
    return dict(sorted(total.items()))


def _excerpts(sources: Iterable[CleanManifest]) -> dict[str, tuple[Excerpt, ...]]:
    shown: dict[str, tuple[Excerpt, ...]] = {}
    for source in sources:
        for reason, excerpts in source.excerpts.items():
            shown[reason] = (*shown.get(reason, ()), *excerpts)[:3]
    return shown


def histogram(values: Sequence[int], columns: int = 24) -> Histogram:
    """Equal columns up to the 99th percentile; what is above it is in the last."""
    if not values:
        return Histogram(1, (), 0, 0)
    ordered = sorted(values)
    top = ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)]
    width = _round_up(max(1, -(-(top + 1) // columns)))
    counts = [0] * min(columns, top // width + 1)
    for value in ordered:
        counts[min(len(counts) - 1, value // width)] += 1
    return Histogram(width, tuple(counts), ordered[len(ordered) // 2], ordered[-1])


def _round_up(width: int) -> int:
    """To 1, 2 or 5 times a power of ten, so that the axis reads well."""
    power = 1
    while True:
        for step in (1, 2, 5):
            if step * power >= width:
                return step * power
        power *= 10


_WORD = re.compile(r"[^\W\d_]{4,}")
_USUAL = frozenset(
    "about after again also because been before cannot could didn does doesn done dont each even "
    "ever from have having hello help here http https into just know like made make many more most "
    "much need only order other over please really same should since some still such sure than "
    "thank thanks that their them then there these they thing this those time today very want "
    "wants well were what when where which while will with without would your yours".split()
)


def topics_of(sample: Sequence[ChatExample], most: int = 12) -> dict[str, int]:
    """The words that tell the customers' concerns apart, and how many conversations open with them.

    A stand-in for topics the export does not name: words in 1 to 40 % of the openings, each
    conversation counted for the rarest of those that were chosen.
    """
    openings = [set(_WORD.findall(example.messages[0].content.lower())) for example in sample]
    openings = [{word for word in words if word not in _USUAL} for words in openings]
    shares = Counter(word for words in openings for word in words)
    usable = [w for w, n in shares.most_common() if 0.01 <= n / max(1, len(sample)) <= 0.4]
    chosen = usable[:most]
    found: Counter[str] = Counter()
    for words in openings:
        named = [word for word in chosen if word in words]
        if named:
            found[min(named, key=lambda word: (shares[word], word))] += 1
    if chosen:
        found["other"] = len(openings) - found.total()
    return dict(found.most_common())
