"""What keeps a failing model from taking the others with it: a circuit breaker, a retry budget.

Both live as long as a Lambda container, which answers one request at a time. Pure, and imports
nothing: a person waits for the chat's cold start.

Sources: a breaker's three states are Nygard's (Release It!, 2007); the budget is Finagle's
RetryBudget, a share of the requests beside a least rate
(finagle.github.io/blog/2016/02/08/retry-budgets), for the reason that the SRE book gives
(sre.google/sre-book/handling-overload, "Deciding to retry": retries of all layers multiply).
"""

from __future__ import annotations

WINDOW = 10
FAILURES = 5
"""So many failures among the last WINDOW answers open a breaker; in a row they are the same."""
OPEN_SECONDS = 10.0
LONGEST_SECONDS = 60.0
"""Each failed probe doubles the pause up to this; no server's Retry-After is believed for longer,
so a model is never out of use for an hour because of one answer."""

RETRY_SHARE = 0.2
RETRIES_PER_SECOND = 0.1
"""Finagle's share. Its least rate, 10 a second, is a server's; a container answers one request at a
time, and asks a model that is down again every OPEN_SECONDS at the most."""
MOST_RETRIES = 10.0
"""What can be saved up; a new container begins with it."""

_LAST = (1 << WINDOW) - 1


class Breaker:
    """Whether one model is asked now.

    Closed: it is. Open: not until some time. Half open, after that: one request is the probe; its
    success closes the breaker, its failure opens it for twice as long.

    Attributes:
        reason: what opened it.
    """

    def __init__(self) -> None:
        self.reason: object = None
        self._recent = 0  # a bit for each of the last answers, 1 for a failure
        self._open_until: float | None = None
        self._pause = OPEN_SECONDS

    def closed_for(self, now: float) -> float:
        """Seconds until the model may be asked; 0: now, and this one asks."""
        if self._open_until is None:
            return 0.0
        if now < self._open_until:
            return self._open_until - now
        # The probe's outcome decides; a probe that never ends is followed by another.
        self._open_until = now + LONGEST_SECONDS
        return 0.0

    def allows(self, now: float) -> bool:
        """Whether it could be asked, which is not asking it: no probe is taken."""
        return self._open_until is None or now >= self._open_until

    def succeeded(self) -> None:
        """The model answered, or refused what it was asked: it lives."""
        if self._open_until is not None:
            self._open_until, self._recent, self._pause = None, 0, OPEN_SECONDS
        elif self._recent:
            self._recent = self._recent << 1 & _LAST

    def failed(
        self, now: float, reason: object, seconds: float | None = None, *, weight: int = 1
    ) -> None:
        """It gave no answer.

        Args:
            seconds: for which it said that it will not; then it is believed at once.
            weight: how many failures it counts for.
        """
        probe = self._open_until is not None
        self._recent = (self._recent << weight | (1 << weight) - 1) & _LAST
        if seconds is not None:
            self._open(now, seconds, reason)
        elif probe:
            self._pause = min(self._pause * 2, LONGEST_SECONDS)
            self._open(now, self._pause, reason)
        elif self._recent.bit_count() >= FAILURES:
            self._open(now, self._pause, reason)

    def _open(self, now: float, seconds: float, reason: object) -> None:
        self._open_until = now + min(max(seconds, 0.0), LONGEST_SECONDS)
        self.reason = reason


class RetryBudget:
    """How many requests may be asked a second time: RETRY_SHARE of them, and a few in any case."""

    def __init__(self, now: float) -> None:
        self._tokens = MOST_RETRIES
        self._at = now

    def deposit(self, now: float) -> None:
        """Once for each request."""
        earned = RETRY_SHARE + (now - self._at) * RETRIES_PER_SECOND
        self._at = now
        self._tokens = min(MOST_RETRIES, self._tokens + earned)

    def withdraw(self) -> bool:
        """Whether there is a retry left; it is spent then."""
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True
