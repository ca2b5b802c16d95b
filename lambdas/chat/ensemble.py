"""Several models' answers to one request, of which one is given."""

from __future__ import annotations

from dropforge.serve.routing import Registry
from lambdas.chat.exchange import Exchange
from lambdas.chat.settings import ChatSettings


class Ensembles:
    def __init__(self, settings: ChatSettings) -> None:
        self._settings = settings

    def ask(self, exchange: Exchange, registry: Registry) -> None:
        raise NotImplementedError
