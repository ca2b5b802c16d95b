"""The group-sequential test that `evidence_above` bets like: its table of values.

For wins and losses and a null of `threshold`, the table says at every number of tickets judged and
won what a share in the test is worth: `payoff` times the chance that it will still reject.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Sequence
from functools import lru_cache
from math import ceil, expm1, sqrt
from typing import NamedTuple

SPENDING = -4.0
"""The family parameter of the alpha-spending function: little is spent early, so that the power at
the horizon is within a point of the test that looks only once."""
BAND = 5.0
"""Standard deviations below the null's mean at which the test is given up; costs no validity."""


class Row(NamedTuple):
    """The undecided states after some tickets.

    Attributes:
        first: wins of the lowest undecided state.
        values: of the states from `first - 1` (lost, 0) to the first rejecting one (`payoff`),
            strictly rising; just these two where every state is decided.
    """

    first: int
    values: Sequence[float]

    def value(self, wins: float) -> float:
        """The worth at this many wins, between two states in proportion."""
        place = wins - self.first + 1
        if place <= 0:
            return 0.0
        low = int(place)
        if low + 1 >= len(self.values):
            return self.values[-1]
        return self.values[low] + (place - low) * (self.values[low + 1] - self.values[low])

    def wins(self, value: float) -> float:
        """The number of wins, a fraction between two states, at which the worth is `value`."""
        low = min(max(bisect_right(self.values, value) - 1, 0), len(self.values) - 2)
        gap = self.values[low + 1] - self.values[low]
        return self.first - 1 + low + (value - self.values[low]) / gap


@lru_cache(maxsize=8)
def plan(horizon: int, threshold: float, payoff: float) -> tuple[Row, ...]:
    """The table, a row for every number of tickets from 0 to `horizon`.

    The test spends its level 1 / payoff over the tickets by the function of Hwang, Shih and DeCani
    (1990, "Group sequential designs using a family of type I error probability spending
    functions"), looking after each. Its last state is decided by lot, so that nothing of the level
    is left and row 0 is worth exactly 1.
    """
    tops, lot = _bounds(horizon, threshold, 1 / payoff)
    undecided = [lot * payoff] if lot else []
    row = Row(tops[-1] - len(undecided), array("d", [0.0, *undecided, payoff]))
    rows, top = [row], tops[-1]
    for tickets in range(horizon - 1, -1, -1):
        top = min(top, tops[tickets])
        row = _before(row, _given_up(tickets, threshold), top, threshold)
        rows.append(row)
    return tuple(reversed(rows))


def _before(after: Row, lowest: int, top: int, threshold: float) -> Row:
    """The row one ticket earlier: every state is worth what its two successors are on average."""
    first = min(max(lowest, after.first - 1), top)
    start, stop = first - after.first + 1, top - after.first + 1
    lost, won = after.values[start:stop], after.values[start + 1 : stop + 1]
    worth = [(1 - threshold) * a + threshold * b for a, b in zip(lost, won, strict=True)]
    return Row(first, array("d", [0.0, *worth, after.values[-1]]))


def _bounds(horizon: int, threshold: float, level: float) -> tuple[list[int], float]:
    """The fewest wins that reject, by tickets; the chance of the state below the last of them."""
    undecided, first, spent, tops = [1.0], 0, 0.0, [1]
    for tickets in range(1, horizon + 1):
        lost, won = [*undecided, 0.0], [0.0, *undecided]
        undecided = [(1 - threshold) * a + threshold * b for a, b in zip(lost, won, strict=True)]
        lowest = _given_up(tickets, threshold)
        if lowest > first:
            del undecided[: lowest - first]
            first = lowest
        budget = level * expm1(-SPENDING * tickets / horizon) / expm1(-SPENDING)
        while undecided and spent + undecided[-1] <= budget:
            spent += undecided.pop()
        tops.append(first + len(undecided))
    lot = max(0.0, level - spent) / undecided[-1] if undecided else 0.0
    return tops, lot


def _given_up(tickets: int, threshold: float) -> int:
    """The fewest wins with which the test goes on; never falls as the tickets grow."""
    spread = sqrt(tickets * threshold * (1 - threshold))
    return max(0, ceil(tickets * threshold - BAND * spread))
