"""Presidio, with patterns only or with a spaCy model, as documented. Runs in .venv-peers.

Reads {"texts": [...], "model": name or ""} from stdin, prints {"seconds": CPU, "texts": [...]}.
"""

from __future__ import annotations

import json
import logging
import sys
import time
import warnings

warnings.simplefilter("ignore")
logging.disable(logging.CRITICAL)

import spacy  # noqa: E402
from presidio_analyzer import AnalyzerEngine, RecognizerRegistry  # noqa: E402
from presidio_analyzer.nlp_engine import NlpEngineProvider, SpacyNlpEngine  # noqa: E402
from presidio_anonymizer import AnonymizerEngine  # noqa: E402


class Blank(SpacyNlpEngine):
    """Tokens without a model: what the pattern recognisers need."""

    def __init__(self) -> None:
        super().__init__()
        self.nlp = {"en": spacy.blank("en")}


asked = json.load(sys.stdin)
registry = RecognizerRegistry()
registry.load_predefined_recognizers(languages=["en"])
if asked["model"]:
    model = {"lang_code": "en", "model_name": asked["model"]}
    settings = {"nlp_engine_name": "spacy", "models": [model]}
    engine = NlpEngineProvider(nlp_configuration=settings).create_engine()
else:
    engine = Blank()
    registry.remove_recognizer("SpacyRecognizer")
analyzer = AnalyzerEngine(registry=registry, nlp_engine=engine, supported_languages=["en"])
anonymizer = AnonymizerEngine()


def clean(text: str) -> str:
    found = analyzer.analyze(text, language="en")
    return str(anonymizer.anonymize(text, analyzer_results=found).text)


clean("warm up: ann@mail.example")
began = time.process_time()
cleaned = [clean(text) for text in asked["texts"]]
seconds = time.process_time() - began
json.dump({"seconds": seconds, "texts": cleaned}, sys.stdout)
