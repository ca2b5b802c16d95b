"""Judged tickets for people to label."""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from dropforge.artifacts import batch_name, evaluation_key
from dropforge.backends.labels import Labels
from dropforge.chat import encode_lines
from dropforge.cli.label.page import serve
from dropforge.cli.label.session import Session, results
from dropforge.judge import Judged, JudgedBy, Outcome, Sample
from tests.support.world import World

JUDGE, SECOND = "gpt-4.1-mini/pairwise/0011aabb", "claude-x/grades/99887766"


def sample(number: int, *, base: Judged | None = None, **more: object) -> Sample:
    """A ticket whose challenger is judged against the base; a win says one judge without `base`."""
    judged = {"base": base or by(**{JUDGE: Outcome.WIN})}
    fields = {
        "id": f"t{number}",
        "question": f"question {number}",
        "reference": f"reference {number}",
        "answers": {"challenger": f"good answer {number}", "base": f"bad answer {number}"},
        "judged": judged,
        "recall": {},
        **more,
    }
    return Sample(**fields)  # type: ignore[arg-type]


def by(**outcomes: Outcome) -> Judged:
    """A comparison that each of these judges decided so; taken together, as the first one did."""
    found = tuple(JudgedBy(judge, outcome) for judge, outcome in outcomes.items())
    return Judged(found[0].outcome, by=found)


def give_samples(
    world: World,
    samples: list[Sample],
    evaluation: str = "e1",
    *,
    version: str = "v1",
    at: float = 1.0,
    batch: int = 10,
) -> None:
    """An evaluation of a model of the project `shop`: its registry items and its batches."""
    for index, start in enumerate(range(0, len(samples), batch)):
        key = evaluation_key("shop", evaluation, batch_name(index))
        world.store.write(key, encode_lines(samples[start : start + batch]))
    world.registry.put(
        "shop", f"evaluation#{evaluation}", {"hash": evaluation, "version": version, "at": at}
    )
    model = {"version": version, "created_at": at, "status": "trained"}
    world.registry.put("shop", f"model#{version}", model)


class Served:
    """A page that somebody has open."""

    def __init__(self, url: str) -> None:
        self.url = url
        parts = urlsplit(url)
        self.host, self.port = parts.hostname or "", parts.port or 0
        self.query = parts.query
        self.lines: list[str] | None = None

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        query: str | None = None,
        **headers: str,
    ) -> tuple[int, Any, http.client.HTTPMessage]:
        connection = http.client.HTTPConnection(self.host, self.port, timeout=60)
        sent = body if isinstance(body, bytes) else json.dumps(body).encode()
        if method == "POST":
            headers = {"Content-Type": "application/json", **headers}
        query = self.query if query is None else query
        connection.request(method, f"{path}?{query}", sent if body is not None else None, headers)
        answer = connection.getresponse()
        data = answer.read()
        connection.close()
        is_json = answer.headers.get_content_type() == "application/json"
        return answer.status, json.loads(data) if is_json else data.decode(), answer.headers

    def get(self, path: str = "/state") -> Any:
        return self.ask("GET", path)[1]

    def post(self, path: str, body: Any) -> Any:
        return self.ask("POST", path, body)[1]


@contextlib.contextmanager
def opened(session: Session, labels: Labels) -> Iterator[Served]:
    """The page of a session; finished at the end of the block, if it is not already."""
    ready: threading.Event = threading.Event()
    told: list[Any] = []

    def is_ready(url: str) -> None:
        told.append(Served(url))
        ready.set()

    def run() -> None:
        told.append(serve(session, lambda: results(labels, "shop", None), is_ready))

    thread = threading.Thread(target=run)
    thread.start()
    assert ready.wait(10)
    served = told[0]
    try:
        yield served
    finally:
        with contextlib.suppress(OSError):
            served.post("/finish", {})
        thread.join(10)
        assert not thread.is_alive()
        served.lines = told[1]
