from __future__ import annotations

import pytest

from dropforge.clean.redact import Kind, Redactor
from tests.support.pii import TEMPLATES, Case, negatives, positives

EACH = 400
CLEAN = 2400


def missed(case: Case) -> bool:
    redacted = Redactor()(case.text)
    left = case.value.split() if case.kind == "NAME" else [case.value]
    return f"[{case.kind}_" not in redacted or any(part in redacted for part in left)


def test_every_kind_has_cases() -> None:
    assert set(TEMPLATES) == {kind.value for kind in Kind}


@pytest.mark.parametrize("aside", [False, True], ids=["known", "aside"])
@pytest.mark.parametrize("kind", TEMPLATES)
def test_recall_is_at_least_98_percent(kind: str, aside: bool) -> None:
    misses = [case.text for case in positives(kind, EACH, aside) if missed(case)]
    assert len(misses) <= 0.02 * EACH, misses[:10]


def test_fewer_than_one_clean_row_in_200_is_changed() -> None:
    texts = list(negatives(CLEAN))
    changed = [(text, after) for text in texts if (after := Redactor()(text)) != text]
    assert len(changed) < 0.005 * CLEAN, changed[:10]


def test_redacting_again_changes_nothing_in_any_case() -> None:
    for kind in TEMPLATES:
        for case in positives(kind, 60, aside=True):
            once = Redactor()(case.text)
            assert Redactor()(once) == once
