"""Answers and ratings on their way to training data."""

from __future__ import annotations

from dropforge.serve import Feedback
from lambdas.chat.edge import Call
from lambdas.chat.exchange import Exchange


class Collector:
    def __init__(self, queue_url: str) -> None:
        self._url = queue_url

    def keep(self, exchange: Exchange) -> None:
        pass

    def rate(self, call: Call, feedback: Feedback) -> None:
        pass
