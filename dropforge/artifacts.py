"""Every S3 key and every manifest; nobody else spells a key.

Each stage reads one manifest and writes the next. An artifact's hash is taken over everything that
decides its content, so the same input has the same key, a rerun finds its result in place, and the
chain from a dropped file to an answer can be walked in both directions.
"""

from __future__ import annotations

import hashlib
from typing import Any, Literal

import msgspec

from dropforge.providers import Backend

EXPORTS, PROJECTS, CLEAN, REJECTED = "exports", "projects", "clean", "rejected"
VALIDATE, TRAIN, JUDGE, MODELS, CODE = "validate", "train", "judge", "models", "code"
ERROR_SUFFIX = ".error.txt"
VERSION_LENGTH = 12
MAX_KEY = 1024


def digest(*parts: object) -> str:
    """SHA-256 (64 hex digits) over the canonical JSON of the parts: dict order is ignored."""
    return hashlib.sha256(msgspec.json.encode(parts, order="sorted")).hexdigest()


def export_prefix(project: str) -> str:
    return f"{EXPORTS}/{project}/"


def collected_key(project: str) -> str:
    """The export of what the project's own model answered well; it starts no run by itself."""
    return f"{collected_prefix(project)}answers.jsonl"


def collected_prefix(project: str) -> str:
    return f"{export_prefix(project)}collected/"


def project_key(project: str) -> str:
    return f"{PROJECTS}/{project}/project.yaml"


def project_snapshot_key(project: str, config_hash: str) -> str:
    return f"{PROJECTS}/{project}/versions/{config_hash}.json"


def clean_key(project: str, clean_hash: str, name: str = "manifest.json") -> str:
    return f"{CLEAN}/{project}/{clean_hash}/{name}"


def part_name(index: int) -> str:
    """The name of one of many parts; names sort as the parts do."""
    return f"part-{index:05d}.jsonl"


def rejected_key(project: str, clean_hash: str, part: str = "") -> str:
    return f"{REJECTED}/{project}/{clean_hash}{part and '/' + part.removesuffix('.jsonl')}.jsonl"


def dataset_key(project: str, dataset_hash: str, name: str = "manifest.json") -> str:
    return f"{VALIDATE}/{project}/{dataset_hash}/{name}"


def order_key(project: str, run_id: str) -> str:
    """What a run's Spark job is to build a dataset of (`DatasetOrder`)."""
    return f"{VALIDATE}/{project}/orders/{run_id}.json"


def train_key(project: str, spec_hash: str, name: str = "manifest.json") -> str:
    return f"{TRAIN}/{project}/{spec_hash}/{name}"


def evaluation_key(project: str, evaluation_hash: str, name: str = "verdict.json") -> str:
    return f"{JUDGE}/{project}/{evaluation_hash}/{name}"


def recorded_key(project: str, version: str, dataset_hash: str) -> str:
    """Where a model's answers to a dataset's test tickets are kept for when it is shut down."""
    return f"{JUDGE}/{project}/recorded/{version}/{dataset_hash}.jsonl"


def answer_key(project: str, address: str) -> str:
    """Where one model's answer to one prompt is kept; `address` is a digest of both."""
    return f"{JUDGE}/{project}/answers/{address[:2]}/{address}.json"


def golden_key(project: str) -> str:
    """The golden questions, as a person drops them beside the project's configuration."""
    return f"{PROJECTS}/{project}/golden.jsonl"


def golden_snapshot_key(project: str, golden_hash: str) -> str:
    """The golden questions that an evaluation asks, as they were when it began."""
    return f"{JUDGE}/{project}/golden/{golden_hash}.jsonl"


def drift_key(project: str, day: str, name: str = "drift.json") -> str:
    """What the look at the model in production found on a day (ISO 8601)."""
    return f"{JUDGE}/{project}/drift/{day}/{name}"


def batch_name(index: int) -> str:
    """The judged samples of a batch of test tickets: batch-000.jsonl for the first."""
    return f"batch-{index:03d}.jsonl"


def error_key(dropped_key: str) -> str:
    """Where the message about a dropped file goes: beside it.

    Under a short name at the top of the project's exports where the file's own key leaves no room
    for the suffix (S3 takes 1,024 bytes).
    """
    beside = dropped_key + ERROR_SUFFIX
    place = split_key(dropped_key)
    if len(beside.encode()) <= MAX_KEY or place is None:
        return beside
    area, project, _ = place
    return f"{area}/{project}/{digest(dropped_key)[:16]}{ERROR_SUFFIX}"


def split_key(key: str) -> tuple[str, str, str] | None:
    """(area, project, rest) of a key under exports/ or projects/; None for any other key."""
    area, _, rest = key.partition("/")
    project, _, name = rest.partition("/")
    if area not in (EXPORTS, PROJECTS) or not project or not name:
        return None
    return area, project, name


class Run(msgspec.Struct, frozen=True):
    """One way of a dropped file through the pipeline: the state machine's input."""

    run_id: str
    project: str
    bucket: str
    key: str
    version_id: str
    config: str


class Source(msgspec.Struct, frozen=True):
    """The dropped file, exactly: S3 version and content."""

    bucket: str
    key: str
    version_id: str
    sha256: str
    size: int


class Excerpt(msgspec.Struct, frozen=True):
    """The beginning of a row, personal data and secrets taken out: for people to look at."""

    position: int
    text: str


class Cluster(msgspec.Struct, frozen=True):
    """Rows that say the same: the one that was kept, and how many were not."""

    position: int
    repeats: int
    text: str


class CleanManifest(msgspec.Struct, frozen=True):
    """What cleaning made of one dropped file. `read == kept + sum(rejected.values())`, always.

    `files` are the names of the parts under the manifest's key, in order. `clusters` are the
    largest ones, `cluster_sizes` counts all of them by the rows that were repeats.
    """

    project: str
    hash: str
    source: Source
    format: str
    read: int
    kept: int
    rejected: dict[str, int]
    redacted_rows: dict[str, int]
    repaired: dict[str, int]
    languages: dict[str, int] = {}
    topics: dict[str, int] = {}
    excerpts: dict[str, tuple[Excerpt, ...]] = {}
    clusters: tuple[Cluster, ...] = ()
    cluster_sizes: dict[int, int] = {}
    files: tuple[str, ...] = ("part.jsonl",)


class Estimate(msgspec.Struct, frozen=True):
    """What training on a dataset would cost with one provider, in US dollars; None: no price known.

    `tokens` are those trained on, all epochs together, by the model's own tokenizer where `exact`.
    """

    provider: str
    model: str
    tokens: int
    usd: float | None
    exact: bool = True
    hours: float | None = None
    note: str = ""


class DatasetManifest(msgspec.Struct, frozen=True):
    """A train/validation/test split over the clean parts of a project, in the order of their drop.

    `read == sum(examples.values()) + sum(left_out.values())`, always: every row of the parts is in
    a split, or left out for a reason (its place and reason stand in `left-out.jsonl`). `tokens` are
    o200k tokens of each split, `train_tokens` those of the training split by encoding; chat
    template and system prompt are counted in.
    """

    project: str
    hash: str
    parts: tuple[str, ...]
    examples: dict[str, int]
    tokens: dict[str, int]
    read: int
    left_out: dict[str, int]
    warnings: tuple[str, ...]
    train_tokens: dict[str, int]


class DatasetOrder(msgspec.Struct, frozen=True):
    """What the validate function asks of Spark: which parts, in which order.

    `instance` is what SageMaker projects train on, for the cost.
    """

    parts: tuple[str, ...]
    instance: str


class JobError(msgspec.Struct, frozen=True):
    """Why a Spark job has written no manifest: a class of dropforge/errors.py and its arguments."""

    error: str
    message: str
    hint: str | None = None


Hyperparameters = dict[str, float | int | str]
"""By the names of project.yaml's `training` section."""


class FineTuneSpec(msgspec.Struct, frozen=True):
    """All that decides what a training job makes."""

    project: str
    dataset: str
    backend: Backend
    model: str
    hyperparameters: Hyperparameters

    @property
    def hash(self) -> str:
        return digest("train/1", self)

    @property
    def version(self) -> str:
        """The model version this spec makes; the same spec always makes the same version."""
        return self.hash[:VERSION_LENGTH]


class FineTuneJob(msgspec.Struct, frozen=True):
    """A training job as its provider knows it; with no job_id it is an intent, written first.

    `silent_since`: when the provider stopped answering, while it does not.
    """

    spec: FineTuneSpec
    attempt: int
    started_at: float
    job_id: str | None = None
    model_id: str | None = None
    silent_since: float | None = None


class Interval(msgspec.Struct, frozen=True):
    """A point estimate with its two-sided 95 % interval."""

    point: float
    low: float
    high: float


class Agreement(msgspec.Struct, frozen=True):
    """How a judge's outcomes fit people's labels of the same pairs.

    Attributes:
        agreement: the share of equal outcomes, with its Wilson interval.
        kappa: Cohen's, weighted: a win called a loss is a worse miss than a win called a tie.
    """

    labels: int
    agreement: Interval
    kappa: float


class Comparison(msgspec.Struct, frozen=True):
    """The challenger against one opponent over the judged test tickets.

    Attributes:
        flips: pairs where a judge named another winner when the answers changed places: ties.
        win_rate: ties as half a win; the interval with whole customers as its units.
        anytime: an interval that holds wherever judging stopped.
        e_value: evidence that the win rate lies above the gate's lower bound; 1 / alpha passes.
        length_controlled: the win rate if both answers had been of the same length.
        position_bias: how much more often than half the judges preferred the answer shown first.
        by_judge: the win rate of each judge of a panel alone.
    """

    opponent: str
    wins: int
    losses: int
    ties: int
    flips: int
    unscored: int
    win_rate: Interval
    confidence: float
    wilson: Interval = Interval(0.5, 0.0, 1.0)
    anytime: Interval = Interval(0.5, 0.0, 1.0)
    e_value: float = 1.0
    length_controlled: Interval | None = None
    position_bias: float = 0.0
    by_judge: dict[str, Interval] = {}

    @property
    def scored(self) -> int:
        return self.wins + self.losses + self.ties

    @property
    def flip_rate(self) -> float:
        return self.flips / self.scored if self.scored else 0.0


class Usage(msgspec.Struct, frozen=True):
    """What some answers took: of an arm, or of the judges.

    Attributes:
        seconds_p50, seconds_p95: of one answer, as asked for just then; 0 where nothing was asked.
        usd: None where no price is known.
    """

    answers: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds_p50: float = 0.0
    seconds_p95: float = 0.0
    usd: float | None = None


class GoldenScore(msgspec.Struct, frozen=True):
    """The golden questions: how many each arm got right, and which the challenger alone got wrong.

    Attributes:
        hash: of the questions.
        against: the opponent that `worse` refers to: the champion, or the base without one.
        worse: ids of the questions that it got right and the challenger did not.
    """

    hash: str
    questions: int
    right: dict[str, int]
    against: str
    worse: tuple[str, ...] = ()


class Evaluation(msgspec.Struct, frozen=True):
    """What the judge found: every number the gate decides on.

    Attributes:
        judges: the judges' versions (`dropforge.judge.judge_version`), the first one first.
        samples: tickets judged.
        planned: tickets that would have been judged without an early stop.
        customers: whose tickets these are; the tickets of one are one piece of evidence.
        scores: by arm, then by name: `chrf`, and `similarity` where it was asked for; 0 to 1.
        failed: by arm, then by check: answers that failed it.
        failing: by arm: answers that failed any check.
        answered: by arm: tickets that it answered; a champion's recorded answers may be fewer.
        failing_beside: by opponent: the challenger's answers that failed any check, of the tickets
            that this opponent answered.
        usage: by arm, and of the judges under `judge`.
        recorded: the arms whose answers were recorded earlier, with the day (ISO 8601).
        agreement: by judge version, of those that people have labelled pairs for.
        warnings: what a reader should know before trusting the numbers.
    """

    project: str
    hash: str
    version: str
    dataset: str
    judge: str
    samples: int
    comparisons: dict[str, Comparison]
    fact_recall: dict[str, float]
    samples_with_facts: int
    recorded: dict[str, str] = {}
    judges: tuple[str, ...] = ()
    planned: int = 0
    customers: int = 0
    scores: dict[str, dict[str, float]] = {}
    failed: dict[str, dict[str, int]] = {}
    failing: dict[str, int] = {}
    answered: dict[str, int] = {}
    failing_beside: dict[str, int] = {}
    usage: dict[str, Usage] = {}
    golden: GoldenScore | None = None
    agreement: dict[str, Agreement] = {}
    warnings: tuple[str, ...] = ()

    @property
    def stopped_early(self) -> bool:
        return self.samples < self.planned


class Rule(msgspec.Struct, frozen=True):
    """One rule of the gate: what was measured, what was asked for, and whether it held.

    Attributes:
        share: whether the numbers are shares, to be read as percent.
    """

    name: str
    measured: float
    asked: float
    held: bool
    share: bool = True


class Decision(msgspec.Struct, frozen=True):
    """The gate's verdict, with the reasons that decided and every rule that was looked at."""

    verdict: Literal["promote", "reject", "not enough evidence"]
    reasons: tuple[str, ...]
    rules: tuple[Rule, ...] = ()


class Verdict(msgspec.Struct, frozen=True):
    """`judge/<project>/<hash>/verdict.json`: evaluation and decision together."""

    evaluation: Evaluation
    decision: Decision


def to_builtins(value: object) -> Any:
    """A manifest as plain dicts, lists, numbers and strings (what a state machine passes on)."""
    return msgspec.to_builtins(value)
