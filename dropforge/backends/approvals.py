"""Runs that wait for a person: what is asked, who decided, and the task that goes on.

A run's question is the registry item `approval#<run id>`; its task token came from Step Functions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import boto3
import msgspec
from botocore.exceptions import ClientError

from dropforge.backends.registry import Item, Registry

_GONE = {"TaskTimedOut", "TaskDoesNotExist", "InvalidToken"}
_OPEN = "attribute_not_exists(decided_at)"


class Approvals:
    """The questions of one deployment. Times are seconds since the epoch."""

    def __init__(self, registry: Registry, states: Any = None) -> None:
        self._registry = registry
        self._states: Any = states or boto3.client("stepfunctions")

    def ask(self, project: str, run_id: str, question: Mapping[str, Any]) -> Item:
        """Keep a run's question; returns what stands: an earlier answer of a person stays.

        Args:
            question: token, version, evaluation, numbers, reasons, asked_at and expires_at.
        """
        sk = f"approval#{run_id}"
        if self._registry.put_if(project, sk, {"run_id": run_id, **question}, _OPEN):
            return dict(question)
        self._registry.update(project, sk, {"token": question["token"]})
        return self.of(project, run_id) or {}

    def of(self, project: str, run_id: str) -> Item | None:
        """A run's question with what was decided, if anything was."""
        return self._registry.get(project, f"approval#{run_id}")

    def waiting(self, project: str, now: float) -> list[Item]:
        """The questions that nobody has answered yet, the oldest first."""
        found = [
            item
            for item in self._registry.items(project, "approval#")
            if "decided_at" not in item and item["expires_at"] > now
        ]
        return sorted(found, key=lambda item: item["asked_at"])

    def decide(
        self, project: str, run_id: str, *, approved: bool, who: str, why: str, at: float
    ) -> tuple[Item, bool]:
        """Decide, if nobody has, and let the run go on as was decided first.

        What is decided is kept for good; a question that nobody answers, DynamoDB forgets after
        `expires_at`. A decision whose run was not told, because the caller was cut off, is told
        again by the next call.

        Returns:
            The question with the decision that stands, and whether the run was still waiting.

        Raises:
            KeyError: there is no such question.
        """
        decision = {"approved": approved, "who": who, "why": why, "decided_at": at}
        while True:  # until it is decided: a question asked anew meanwhile has another token
            item = self.of(project, run_id)
            if item is None:
                raise KeyError(run_id)
            if "decided_at" in item:
                break
            kept = {name: value for name, value in item.items() if name != "expires_at"} | decision
            same = f"{_OPEN} AND #token = :token"
            values, names = {":token": item["token"]}, {"#token": "token"}
            if self._registry.put_if(project, f"approval#{run_id}", kept, same, values, names):
                item = kept
                break
        return item, self.tell(item)

    def tell(self, item: Mapping[str, Any]) -> bool:
        """Let the run go on with what was decided; False where it does not wait any more."""
        output = {name: item[name] for name in ("approved", "who", "why")}
        try:
            self._states.send_task_success(
                taskToken=item["token"], output=msgspec.json.encode(output).decode()
            )
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") in _GONE:
                return False
            raise
        return True
