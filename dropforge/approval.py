"""Approval: a person says yes before a challenger that passed the gate meets any customer.

Pure: the message that asks, the page that shows the verdict, and the signature of the link. The
link shows the page and nothing more; only the page's buttons decide, since programs that look for
harmful mail open every link.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from dropforge.artifacts import Verdict, digest
from dropforge.page import Markup, Table, page

VALID_S = 7 * 24 * 3600
"""Seconds that a run waits for an answer, and that its link can be used."""
_FORM = (
    '<form method="post"><button name="decision" value="approve">Approve</button> '
    '<button name="decision" value="decline">Decline</button></form>'
)


def signature(key: str, project: str, run_id: str, expires: int) -> str:
    """HMAC-SHA256 (64 hex digits) over what a link is about and until when it can be used."""
    said = digest("approval/1", project, run_id, expires)
    return hmac.new(key.encode(), said.encode(), hashlib.sha256).hexdigest()


def link(api_url: str, key: str, project: str, run_id: str, expires: int) -> str:
    """The address of the page where this run's model is approved or declined."""
    signed = {"expires": expires, "signature": signature(key, project, run_id, expires)}
    return f"{api_url.rstrip('/')}/approvals/{project}/{run_id}?{urlencode(signed)}"


def is_signed(
    key: str, project: str, run_id: str, expires: str, signed: str, *, now: float
) -> bool:
    """Whether a link is ours, unchanged, and not too old; compared in constant time."""
    if not expires.isascii() or not expires.isdigit() or len(expires) > 12:
        return False
    right = signature(key, project, run_id, int(expires))
    same = hmac.compare_digest(right.encode(), signed.encode("utf-8", "replace"))
    return same and now < int(expires)


def numbers(verdict: Verdict) -> list[tuple[str, str]]:
    """What the verdict rests on: (what, how much), the decision first."""
    evaluation, decision = verdict.evaluation, verdict.decision
    rows = [("verdict", decision.verdict), ("tickets judged", f"{evaluation.samples:,}")]
    for name, found in evaluation.comparisons.items():
        rate = found.win_rate
        interval = f"{rate.point:.0%} [{rate.low:.0%}, {rate.high:.0%}]"
        rows.append((f"win rate against the {name}", interval))
    rows += [(f"facts right, {arm}", f"{r:.0%}") for arm, r in evaluation.fact_recall.items()]
    return [*rows, *(("because", reason) for reason in decision.reasons)]


def subject(project: str, version: str) -> str:
    """The mail's subject: SNS takes 100 ASCII characters of it."""
    return f"Dropforge: approve {version} of {project}?"[:100]


def message(
    project: str, version: str, told: Sequence[tuple[str, str]], address: str, expires: int
) -> str:
    """The mail's text.

    Args:
        told: the verdict's numbers, see `numbers`.
        address: the signed link; "" where there is none.
    """
    lines = [f"Model {version} of project {project} passed the gate and waits for a person.", ""]
    lines += [f"  {name}: {value}" for name, value in told]
    lines += ["", "To decide, in a terminal:"]
    lines += [f"  dropforge approve {version} -p {project}             (or with --decline)"]
    lines += [f"  dropforge report -p {project} --version {version}    (the whole evaluation)"]
    if address:
        lines += ["", "Or in a browser, where the page asks before it does anything:", address]
    until = datetime.fromtimestamp(expires, UTC).strftime("%Y-%m-%d %H:%M UTC")
    lines += ["", f"Without an answer until {until} the champion stays as it is."]
    return "\n".join(lines)


def approval_page(project: str, item: Mapping[str, Any], *, waits: bool = True) -> str:
    """The page behind the link: the verdict's numbers, and two buttons while nobody has decided.

    Args:
        item: the registry's `approval#<run>`.
        waits: False where the run was told, and did not wait for it any more.
    """
    sections: list[tuple[str, Markup | Table | str]] = [
        ("What the judge found", Table(("", ""), [tuple(row) for row in item["numbers"]]))
    ]
    if "decided_at" in item:
        lead = decided(item)
        if not waits:
            lead += (
                ". Its run was not waiting any more: "
                f"dropforge status -p {project} tells what became of it"
            )
    else:
        lead = f"Model {item['version']} passed the gate. Shall it meet customers?"
        sections.append(("Your decision", Markup(_FORM)))
    title = f"{project} {item['version']}"
    return page(title, lead, sections, footer=f"evaluation {item['evaluation']}")


def refusal_page() -> str:
    """What a link shows that is wrong or too old; not which of the two."""
    said = "Ask for what waits with the command dropforge approve."
    return page("This link cannot be used", "It is not complete, or it is too old.", [("", said)])


def decided(item: Mapping[str, Any]) -> str:
    """Who decided what, in a sentence."""
    verb = "approved" if item["approved"] else "declined"
    when = datetime.fromtimestamp(item["decided_at"], UTC).strftime("%Y-%m-%d %H:%M UTC")
    why = f": {item['why']}" if item.get("why") else ""
    return f"{item['version']} was {verb} by {item['who']} on {when}{why}"
