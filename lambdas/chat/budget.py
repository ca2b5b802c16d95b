"""What tokens may spend."""

from __future__ import annotations

from dropforge.backends.awsapi import Table
from lambdas.chat.exchange import Exchange


class Budgets:
    def __init__(self, table: Table) -> None:
        self._table = table

    def hold(self, exchange: Exchange) -> None:
        pass

    def settle(self, exchange: Exchange) -> None:
        pass
