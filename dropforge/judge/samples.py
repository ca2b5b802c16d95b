"""What is known of one judged ticket: a line of `judge/<project>/<hash>/batch-NNN.jsonl`."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Outcome(StrEnum):
    """Of one comparison, seen from the challenger."""

    WIN = "win"
    LOSS = "loss"
    TIE = "tie"
    UNSCORED = "unscored"


class JudgedBy(msgspec.Struct, frozen=True):
    """What one judge of a panel made of one comparison.

    Attributes:
        judge: its version (`judge_version`).
        first: how often, of its two answers, it preferred the answer shown first; None: unscored.
        flipped: it named two different winners: a tie.
    """

    judge: str
    outcome: Outcome
    flipped: bool = False
    confidence: float = 0.0
    rationale: str = ""
    first: int | None = None


class Judged(msgspec.Struct, frozen=True):
    """One comparison on one ticket, both orders and all judges taken together.

    Attributes:
        score: 1 for a win, 1/2 for a tie, 0 for a loss, averaged over the judges that scored it;
            None where too few of them did.
    """

    outcome: Outcome
    flipped: bool = False
    confidence: float = 0.0
    rationale: str = ""
    score: float | None = None
    by: tuple[JudgedBy, ...] = ()


class AnswerUsage(msgspec.Struct, frozen=True):
    """What one answer took. `seconds` is 0 and tokens are None where nobody knows."""

    seconds: float = 0.0
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class Sample(msgspec.Struct, frozen=True):
    """All about one test ticket: the answers, by arm, and how the challenger's fared.

    Attributes:
        cluster: what stands for the customer, or else for the ticket: rows of one are no
            independent evidence.
        judged: by opponent (`base`, `champion`).
        recall: by arm, the share of the reference's facts stated; None where it has none.
        scores: by arm, then by name (`chrf`, `similarity`), 0 to 1.
        failed: by arm, the checks that the answer failed.
        usage: by arm, and of the judges under `judge`, all their calls together.
        recorded: the arms whose answers were recorded earlier, with the day (ISO 8601).
    """

    id: str
    question: str
    reference: str
    answers: dict[str, str]
    judged: dict[str, Judged]
    recall: dict[str, float | None]
    recorded: dict[str, str] = {}
    cluster: str = ""
    topic: str = ""
    scores: dict[str, dict[str, float]] = {}
    failed: dict[str, tuple[str, ...]] = {}
    usage: dict[str, AnswerUsage] = {}
