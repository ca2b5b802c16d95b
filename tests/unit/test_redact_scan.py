from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dropforge.clean.redact import Redactor, scan
from tests.support.pii import TEMPLATES, positives

sentences = st.sampled_from(
    [case.text for kind in TEMPLATES for case in positives(kind, 6, aside=False)]
)
conversations = st.lists(st.lists(st.text() | sentences, max_size=4), max_size=6)


@given(conversations)
def test_conversation_scanned_among_others_is_redacted_as_alone(many: list[list[str]]) -> None:
    together = [
        Redactor().conversation(texts, seen) for texts, seen in zip(many, scan(many), strict=True)
    ]
    assert together == [Redactor().conversation(texts) for texts in many]


def test_long_conversation_is_redacted_as_its_parts() -> None:
    texts = [case.text for kind in TEMPLATES for case in positives(kind, 40, aside=False)]
    alone = [Redactor()(text) for text in texts]
    assert [Redactor().conversation([text, "x" * 5000])[0] for text in texts] == alone


def test_scan_of_other_texts_is_not_used() -> None:
    (other,) = scan([["nothing here"]])
    assert Redactor().conversation(["ann@mail.example, IP 203.0.113.77"], other) == [
        "[EMAIL_1], IP [IP_1]"
    ]
