"""What tokens may spend: held before a model is asked, settled once the caller has the answer.

A hold is one conditional update of the token's month, so that parallel callers never spend more
than the budget. Where DynamoDB refuses work or takes longer than HOLD_SECONDS, the request goes on
unchecked (metric BudgetUnchecked): a person who waits for an answer counts for more than a budget's
last cent. What it costs is written afterwards; where that fails too, the container remembers it and
writes it before the token's next hold.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgspec

from dropforge.backends.awsapi import AwsError, ConditionFailedError, Table
from dropforge.backends.connection import HttpError
from dropforge.serve import BudgetExceededError, InvalidRequestError
from dropforge.serve.budget import (
    NANO,
    Hold,
    Spent,
    bounds,
    budget_key,
    cost,
    left_slot,
    month,
    output_tokens,
    renewal,
    slot,
)
from lambdas.chat.edge import Call
from lambdas.chat.exchange import Exchange

HOLD_SECONDS = 0.15
TIERS = ("auto", "default", "flex")
"""Of OpenAI's service tiers those that cost no more than its list price."""
MAX_DEBTS = 1000
"""Tokens whose debts a container remembers; those of others are lost (metric BudgetUnsettled)."""


class Budgets:
    """The budgets of all tokens; lives as long as its container, and with it what is owed."""

    def __init__(self, table: Table, clock: Callable[[], float] = time.monotonic) -> None:
        self._table = table
        self._clock = clock
        self._debts: dict[tuple[str, str], int] = {}

    def hold(self, exchange: Exchange) -> None:
        """Reserves what the request can cost at most; nothing where it costs nothing.

        Raises:
            BudgetExceededError: the budget does not have that any more.
            InvalidRequestError: a service tier that costs more than the project's price.
        """
        call, options = exchange.call, exchange.options
        if call.budget_usd is None:
            return
        _check_tier(exchange.fields)
        tokens, named = output_tokens(exchange.fields, options)
        exchange.output_tokens = None if named else tokens
        ask, nano = bounds(
            exchange.fields,
            exchange.prompt,
            options,
            ensemble=options.ensemble is not None and exchange.asked.arm == "champion",
            fallback=bool(options.fallback) or exchange.asked.fallback is not None,
        )
        if not nano:
            return
        pk, sk = budget_key(call.token_id, month(call.at))
        held = Hold(pk, sk, slot(call.at), nano, ask, checked=True)
        try:
            self._pay_debt(held)
            done = self._reserve(exchange, held)
        except (AwsError, HttpError):
            held = msgspec.structs.replace(held, checked=False)
            call.metrics["BudgetUnchecked"] = 1
        else:
            if not done:
                self._heal(exchange, held)
        exchange.hold = held

    def settle(self, exchange: Exchange) -> None:
        """Turns the hold into what the request did cost."""
        held = exchange.hold
        if held is None:
            return
        spent = self._spent(exchange, held)
        if not held.checked:
            if spent:
                self._owe(exchange.call, held, spent)
            return
        try:
            self._add(held, (spent - held.nano, -held.nano))
        except (AwsError, HttpError):
            # Sent again it could count twice; the hold is given back with its slot instead.
            exchange.call.metrics["BudgetUnsettled"] = 1

    def _spent(self, exchange: Exchange, held: Hold) -> int:
        """What is paid for: the usage, and the most for every answer without one."""
        lost = exchange.lost * held.ask
        if exchange.error is not None:  # of a stream that broke some was written
            return max(lost, held.ask if exchange.first else 0)
        price = exchange.options.price
        told = cost(exchange.completion, price) if price else None
        return lost + (held.ask if told is None else told)

    def _reserve(self, exchange: Exchange, held: Hold) -> bool:
        """Whether there was room for the hold."""
        room = int((exchange.call.budget_usd or 0) * NANO) - held.nano
        if room < 0:
            return False
        condition = "attribute_not_exists(used_nano) OR used_nano <= :room"
        try:
            self._add(held, (held.nano, held.nano), condition, {":room": room})
        except ConditionFailedError:
            return False
        return True

    def _heal(self, exchange: Exchange, held: Hold) -> None:
        """Takes back what containers that died have held, and holds again.

        Raises:
            BudgetExceededError: that is not enough, or cannot be found out now.
        """
        spent, left = None, left_slot(exchange.call.at)
        try:
            deadline = self._clock() + HOLD_SECONDS
            item = self._table.get(held.pk, held.sk, deadline=deadline, consistent=True) or {}
            spent, nano = Spent.of(item), int(item.get(left, 0))
            if nano > 0:
                there = msgspec.structs.replace(held, slot=left)
                with suppress(ConditionFailedError):  # another container took it back
                    self._add(there, (-nano, -nano), f"{left} = :left", {":left": nano})
                if self._reserve(exchange, held):
                    return
        except (AwsError, HttpError):
            pass
        raise _exceeded(exchange, spent, held)

    def _pay_debt(self, held: Hold) -> None:
        """Writes what earlier requests of the token cost that could not be checked."""
        if owed := self._debts.get((held.pk, held.sk)):
            self._add(held, (owed, 0))
            del self._debts[held.pk, held.sk]

    def _add(
        self,
        held: Hold,
        nano: tuple[int, int],
        condition: str = "",
        values: dict[str, int] | None = None,
    ) -> None:
        """Adds to what is used, and to what of it is held."""
        self._table.update(
            held.pk,
            held.sk,
            f"ADD used_nano :used, {held.slot} :held",
            {":used": nano[0], ":held": nano[1], **(values or {})},
            condition=condition,
            deadline=self._clock() + HOLD_SECONDS,
        )

    def _owe(self, call: Call, held: Hold, spent: int) -> None:
        """Writes what an unchecked request cost; else remembers it.

        A write whose answer is lost may have arrived: such a debt counts twice rather than never.
        """
        try:
            self._add(held, (spent, 0))
        except (AwsError, HttpError):
            call.metrics["BudgetUnsettled"] = 1
            key = held.pk, held.sk
            if key in self._debts or len(self._debts) < MAX_DEBTS:
                self._debts[key] = self._debts.get(key, 0) + spent


def _check_tier(fields: dict[str, Any]) -> None:
    """A dearer tier would be counted at the price of the usual one."""
    tier = fields.get("service_tier")
    if tier is not None and tier not in TIERS:
        raise InvalidRequestError(
            "This token has a budget, which counts the usual price: `service_tier` may be"
            f" {', '.join(TIERS)}, or left out.",
            param="service_tier",
            wire_code="invalid_value",
        )


def _exceeded(exchange: Exchange, spent: Spent | None, held: Hold) -> BudgetExceededError:
    budget, at = exchange.call.budget_usd or 0.0, exchange.call.at
    now = ""
    if spent:
        now = (
            f" ${spent.spent_usd:.4f} is spent, ${spent.held / NANO:.4f} is held for requests that"
            " are being answered, and"
        )
    return BudgetExceededError(
        f"This token's budget of ${budget:.2f} for {month(at)} does not allow this request:{now}"
        f" this one could cost ${held.nano / NANO:.4f}. It renews on {renewal(at)} (UTC).",
        hint="A lower `max_tokens` makes a request cheaper; whoever gave you the token can raise"
        " its budget.",
    )
