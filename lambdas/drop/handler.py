"""SQS batch of S3 events -> executions of the pipeline.

Answers which messages failed, so that SQS delivers only those again, and after three tries parks
them in the dead-letter queue.
"""

from __future__ import annotations

import time
from functools import cache
from typing import Any

import boto3
import msgspec
from aws_lambda_powertools.utilities.batch import (
    BatchProcessor,
    EventType,
    process_partial_response,
)
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord

from dropforge.artifacts import (
    Run,
    error_key,
    golden_key,
    golden_snapshot_key,
    project_key,
    project_snapshot_key,
)
from dropforge.backends.registry import FAILED, RUNNING, Registry
from dropforge.backends.store import Store
from dropforge.drop import MAX_BYTES, Drop, content_identity, parse_event
from dropforge.errors import DropforgeError, NoDataError, ProjectError, TooLargeError
from dropforge.golden import encode_golden, golden_hash, parse_golden
from dropforge.project import ProjectConfig, parse_project
from dropforge.project.served import config_item
from dropforge.settings import DropSettings
from lambdas import edge

_processor = BatchProcessor(event_type=EventType.SQS)


def handler(event: dict[str, Any], context: Any) -> Any:
    """Handle each message on its own; see the module's promise."""
    return process_partial_response(event, _record, _processor, context)


@cache
def _intake() -> Intake:
    settings = DropSettings.from_environment()
    return Intake(edge.store(settings.bucket), edge.registry(settings.table), settings)


def _record(record: SQSRecord) -> None:
    drop = parse_event(record.json_body)
    if drop is None:
        return
    try:
        _intake().take(drop)
    except NoDataError:
        # The version was deleted between the event and now: there is nothing left to do.
        edge.count_metrics(drop.project, {"DropsGone": 1})


class Intake:
    """Takes drops in: project files become configuration and questions, exports become runs."""

    def __init__(self, store: Store, registry: Registry, settings: DropSettings) -> None:
        self._store = store
        self._registry = registry
        self._settings = settings
        self._executions = boto3.client("stepfunctions")

    def take(self, drop: Drop) -> None:
        """Register or start; what is wrong with a drop is written beside it and in the registry.

        Raises:
            NoDataError: the dropped version does not exist any more.
        """
        try:
            if drop.is_project_file:
                self._register(drop.project)
            elif drop.is_golden:
                self._set_golden(drop.project)
            else:
                self._start(drop)
        except NoDataError:
            raise
        except DropforgeError as error:
            self._refuse(drop, error)

    def _register(self, project: str) -> ProjectConfig:
        """Make the project's file as it stands now its configuration: events come out of order."""
        key = project_key(project)
        config = parse_project(project, self._store.read(key))
        if (self._registry.get(project, "config") or {}).get("hash") != config.hash:
            snapshot = project_snapshot_key(project, config.hash)
            self._store.write(snapshot, config.model_dump_json())
            item = config_item(config, self._settings.base_component)
            item["updated_at"] = time.time()
            self._registry.put_config(project, item)
        self._clear_message(key)
        return config

    def _set_golden(self, project: str) -> None:
        """Make golden.jsonl as it stands now the project's golden questions.

        A wrong one leaves the last valid one in force.
        """
        key = golden_key(project)
        questions = parse_golden(self._store.read(key))
        address = golden_hash(questions)
        if (self._registry.get(project, "golden") or {}).get("hash") != address:
            self._store.write(golden_snapshot_key(project, address), encode_golden(questions))
            item = {"hash": address, "questions": len(questions), "at": time.time()}
            self._registry.put(project, "golden", item)
        self._clear_message(key)

    def _config_hash(self, project: str) -> str:
        """The current configuration's, or the last valid one's where the current one is wrong."""
        try:
            return self._register(project).hash
        except NoDataError as error:
            known = self._registry.get(project, "config")
            if known is None:
                raise ProjectError(
                    f"There is no project {project!r} yet.",
                    hint=f"Put its configuration at {project_key(project)}, then drop again.",
                ) from error
        except ProjectError:
            known = self._registry.get(project, "config")
            if known is None:
                raise
        return str(known["hash"])

    def _start(self, drop: Drop) -> None:
        if drop.order and not self._registry.is_newest(drop.project, drop.key, drop.order):
            edge.count_metrics(drop.project, {"DropsStale": 1})
            return
        config_hash = self._config_hash(drop.project)
        checksum, size = self._store.identity(drop.key, drop.version_id)
        if size > MAX_BYTES:
            raise TooLargeError(
                f"The file has {size:,} bytes; the largest that is read has {MAX_BYTES:,}.",
                hint="Drop it in several files: the dataset is built from all of them.",
            )
        identity = content_identity(checksum, size, config_hash)
        holder = self._registry.claim_drop(drop.project, identity, drop.run_id)
        if holder != drop.run_id:
            self._note_run(drop, {"status": "repeated", "repeats": holder, "stage": "drop"})
            return
        if self._note_run(drop, {"status": RUNNING, "stage": "drop"}):
            self._clear_message(drop.key)
        self._execute(
            Run(drop.run_id, drop.project, drop.bucket, drop.key, drop.version_id, config_hash)
        )

    def _execute(self, run: Run) -> None:
        try:
            self._executions.start_execution(
                stateMachineArn=self._settings.state_machine_arn,
                name=run.run_id,
                input=msgspec.json.encode({"run": run}).decode(),
            )
        except self._executions.exceptions.ExecutionAlreadyExists:
            return  # the same event again
        edge.count_metrics(run.project, {"RunsStarted": 1})

    def _note_run(self, drop: Drop, values: dict[str, Any]) -> bool:
        now = time.time()
        item = {
            "run_id": drop.run_id,
            "key": drop.key,
            "version_id": drop.version_id,
            "started_at": now,
            "updated_at": now,
            **values,
        }
        return self._registry.put_new(drop.project, f"run#{drop.run_id}", item)

    def _refuse(self, drop: Drop, error: DropforgeError) -> None:
        self._store.write(error_key(drop.key), f"{error}\n")
        failed = {"status": FAILED, "stage": "drop", "error": str(error)}
        if not (drop.is_project_file or drop.is_golden) and self._note_run(drop, failed):
            edge.count_metrics(drop.project, {"RunsFailed": 1})

    def _clear_message(self, key: str) -> None:
        message = error_key(key)
        if self._store.find(message) is not None:
            self._store.delete(message)
