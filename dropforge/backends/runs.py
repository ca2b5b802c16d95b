"""Runs that no dropped file starts: the monthly one, and a retraining on another provider."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import boto3
import msgspec

from dropforge.artifacts import Run
from dropforge.backends.registry import RUNNING, Registry


class Runs:
    """Starts executions of the state machine, each noted in the registry first."""

    def __init__(self, registry: Registry, state_machine_arn: str) -> None:
        self._registry = registry
        self._arn = state_machine_arn
        self._executions = boto3.client("stepfunctions")

    def start(
        self,
        run: Run,
        *,
        stage: str,
        now: float,
        about: Mapping[str, Any] | None = None,
        state: Mapping[str, Any] | None = None,
    ) -> bool:
        """Start the run, which begins at `stage`; False where its execution has been and ended.

        A run that was noted but never begun, because its starter was killed, begins now.

        Args:
            about: more that its registry item tells.
            state: more that the state machine gets beside the run.
        """
        item = {
            "run_id": run.run_id,
            "key": run.key,
            "version_id": run.version_id,
            "stage": stage,
            **(about or {}),
            "status": RUNNING,
            "started_at": now,
            "updated_at": now,
        }
        self._registry.put_new(run.project, f"run#{run.run_id}", item)
        try:
            self._executions.start_execution(
                stateMachineArn=self._arn,
                name=run.run_id,
                input=msgspec.json.encode({"run": run, **(state or {})}).decode(),
            )
        except self._executions.exceptions.ExecutionAlreadyExists:
            return False
        return True
