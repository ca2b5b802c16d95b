"""People who ask and rate: the traffic that a canary of the demo and of tests is decided on.

A stand-in for a shop's customers, and it says so: the questions are held-out tickets of the
example, and a rating is whether the answer states the facts of the agent's own.
"""

from __future__ import annotations

import json
import threading
import urllib.request
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from dropforge.chat import ChatExample
from dropforge.cli.api import ApiError, complete
from dropforge.judge import fact_recall

GOOD_ENOUGH = 0.5
"""Share of the agent's facts from which on a customer is content."""
MAX_TOKENS = 56


class Asked(NamedTuple):
    """One answer, as the customer sees it."""

    user: str
    arm: str
    model: str
    rating: int


class Customers:
    """Asks a project's API, many at a time, each user about the tickets in their order.

    Args:
        project: asked by its bare name, so that the canary takes part.
    """

    def __init__(self, api_url: str, token: str, project: str) -> None:
        self._url, self._token, self._project = api_url, token, project
        self.asked: list[Asked] = []
        self.refused: Counter[int] = Counter()

    def run(
        self,
        tickets: Sequence[ChatExample],
        over: threading.Event,
        *,
        at_once: int = 4,
        most: int = 1000,
    ) -> None:
        """Ask until it is over, or `most` questions are asked; those under way are answered."""

        def ask(number: int) -> None:
            if not over.is_set():
                self._ask(f"customer-{number}", tickets[number % len(tickets)])

        with ThreadPoolExecutor(at_once) as pool:
            list(pool.map(ask, range(most)))

    @property
    def arms(self) -> Counter[str]:
        """Answers by arm."""
        return Counter(one.arm for one in self.asked)

    def _ask(self, user: str, ticket: ChatExample) -> None:
        question = {"role": "user", "content": ticket.question}
        body = {
            "model": self._project,
            "messages": [question],
            "user": user,
            "max_tokens": MAX_TOKENS,
        }
        try:
            answer, headers = complete(self._url, self._token, body)
        except ApiError as error:
            self.refused[error.status] += 1
            return
        text = str(answer["choices"][0]["message"]["content"])
        content = (fact_recall(ticket.reference, text) or 0.0) >= GOOD_ENOUGH
        rating = 1 if content else -1
        self._rate(str(answer["id"]), rating)
        arm, model = (str(headers.get(f"x-dropforge-{name}")) for name in ("arm", "model"))
        self.asked.append(Asked(user, arm, model, rating))

    def _rate(self, answer: str, rating: int) -> None:
        request = urllib.request.Request(  # noqa: S310  (the URL is the deployment's own)
            f"{self._url}/v1/feedback",
            data=json.dumps({"id": answer, "rating": rating}).encode(),
            headers={
                "Authorization": f"Bearer {self._token}",
                "Content-Type": "application/json",
            },
        )
        try:
            with urllib.request.urlopen(request, timeout=30):  # noqa: S310
                pass
        except OSError:
            self.refused[0] += 1
