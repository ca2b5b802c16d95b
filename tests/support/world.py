"""The deployed pipeline without its state machine: AWS in memory, and handlers called in order."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import boto3
import pytest

from dropforge.backends.registry import Registry
from dropforge.backends.store import Store
from dropforge.cli.deployment import PARAMETER
from dropforge.providers import PRESETS
from lambdas import edge, providers
from lambdas.clean import handler as clean
from lambdas.drop import handler as drop
from lambdas.fail import handler as fail
from lambdas.judge import batch, plan, verdict
from lambdas.promote import handler as promote
from lambdas.train import fallback, launch, poll
from lambdas.validate import handler as validate
from tests.support.memory_aws import MemoryAws
from tests.support.provider import Provider
from tests.support.tables import create_table

PROJECT = "backend: openai\nmodel: small\njudge: {model: judge, samples: 60, batch: 20}\n"
Handler = Callable[[dict[str, Any], Any], Any]
STAGES: dict[str, tuple[Handler, str]] = {
    "clean": (clean.handler, "clean"),
    "validate": (validate.handler, "dataset"),
    "launch": (launch.handler, "job"),
    "poll": (poll.handler, "poll"),
    "plan": (plan.handler, "plan"),
    "judge": (batch.handler, "batches"),
    "verdict": (verdict.handler, "evaluation"),
    "promote": (promote.handler, "promotion"),
}


class World:
    """A project `shop` in a bucket, a table and a state machine of its own."""

    def __init__(self, name: str, state_machine_arn: str, memory: MemoryAws | None) -> None:
        self.bucket = self.table = name
        self.memory = memory
        self.beginning = b""
        self.arn = state_machine_arn
        self._s3 = boto3.client("s3")
        self._executions = boto3.client("stepfunctions")
        self.store = Store(name, self._s3)
        self.registry = Registry(name, boto3.resource("dynamodb"))

    def begin(self) -> None:
        """From here on something has happened if AWS in memory holds more than it does now."""
        self.beginning = self.memory.saved(self.bucket) if self.memory else b""

    def put(self, key: str, data: bytes | str) -> dict[str, Any]:
        """Write an object; returns S3's event about it, as EventBridge hands it on."""
        self.store.write(key, data)
        head = self._s3.head_object(Bucket=self.bucket, Key=key)
        return object_created(self.bucket, key, head["VersionId"])

    def delete_version(self, key: str, version_id: str) -> None:
        self._s3.delete_object(Bucket=self.bucket, Key=key, VersionId=version_id)

    def put_project(self, text: str = PROJECT, name: str = "shop") -> None:
        self.take(self.put(f"projects/{name}/project.yaml", text))

    def take(self, *events: dict[str, Any]) -> Any:
        """One SQS batch through the drop function; returns what SQS is told."""
        records = [_record(str(i), json.dumps(event)) for i, event in enumerate(events)]
        return drop.handler({"Records": records}, None)

    def drop(self, data: bytes | str, key: str = "exports/shop/tickets.csv") -> dict[str, Any]:
        """Drop an export; returns its state as the state machine gets it."""
        self.take(self.put(key, data))
        return self.executions()[-1]

    def executions(self) -> list[dict[str, Any]]:
        """The inputs of all executions, in the order they were started."""
        listed = self._executions.list_executions(stateMachineArn=self.arn)["executions"]
        return [
            json.loads(self._executions.describe_execution(executionArn=e["executionArn"])["input"])
            for e in sorted(listed, key=lambda e: e["startDate"])
        ]

    def run(self, state: dict[str, Any], until: str = "promote") -> dict[str, Any]:
        """Take a state on from where it is as the state machine does, up to and with a stage."""
        for name, (handler, place) in STAGES.items():
            if place in state:
                continue
            if name == "judge":
                self._look(state, handler)
            else:
                state[place] = handler(state, None)
            if name == until:
                break
        return state

    def _look(self, state: dict[str, Any], judge: Handler) -> None:
        """Judge and plan in turns, until no more tickets are asked for."""
        state["batches"] = []
        while state["plan"]["more"]:
            state["batches"] += [
                judge({**_judge_item(state), "batch": index}, None)
                for index in state["plan"]["batches"]
            ]
            state["plan"] = plan.handler(state, None)

    def fall_back(self, state: dict[str, Any], error: Exception) -> dict[str, Any]:
        """What the state machine does with an error after which another backend is tried."""
        caught = {"Error": type(error).__name__, "Cause": _cause(error)}
        state["fallback"] = fallback.handler({**state, "error": caught}, None)
        state.pop("job", None)
        state.pop("poll", None)
        return state

    def fail(self, state: dict[str, Any], error: Exception) -> Any:
        """What the state machine does with an error that a stage raised."""
        caught = {"Error": type(error).__name__, "Cause": _cause(error)}
        return fail.handler({**state, "error": caught}, 0)

    def run_item(self, state: dict[str, Any], project: str = "shop") -> dict[str, Any]:
        return self.registry.get(project, f"run#{state['run']['run_id']}") or {}

    def listed(self, prefix: str = "") -> list[str]:
        listed = self._s3.list_objects_v2(Bucket=self.bucket, Prefix=prefix)
        return [entry["Key"] for entry in listed.get("Contents", [])]


def _cause(error: Exception) -> str:
    return json.dumps({"errorMessage": str(error), "errorType": type(error).__name__})


_sequence = itertools.count(0x61D0F0)


def object_created(bucket: str, key: str, version_id: str) -> dict[str, Any]:
    told = {"key": key, "version-id": version_id, "sequencer": f"00{next(_sequence):X}"}
    return {
        "source": "aws.s3",
        "detail-type": "Object Created",
        "detail": {"bucket": {"name": bucket}, "object": told},
    }


def _judge_item(state: dict[str, Any]) -> dict[str, Any]:
    return {"run": state["run"], "plan": state["plan"], "model": state["poll"]["model"]}


def _record(message_id: str, body: str) -> dict[str, Any]:
    return {"messageId": message_id, "body": body, "eventSource": "aws:sqs"}


_names = (f"dropforge-test-{number:05}" for number in itertools.count())


@contextmanager
def running_world(
    monkeypatch: pytest.MonkeyPatch, provider: Provider, memory: MemoryAws | None = None
) -> Iterator[World]:
    """Everything deployed and nothing dropped; the OpenAI backend and the judge are `provider`.

    AWS has to be moto's or in memory; each world has a bucket, a table and a state machine of its
    own, whose names are all of one length.
    """
    name = next(_names)
    arn = _deploy(name)
    for variable, value in _environment(name, arn, provider).items():
        monkeypatch.setenv(f"DROPFORGE_{variable}", value)
    yield World(name, arn, memory)
    for cached in (edge.store, edge.registry, providers.openai_backend, drop._intake):
        cached.cache_clear()


def _environment(name: str, state_machine_arn: str, provider: Provider) -> dict[str, str]:
    access = {"base_url": provider.url, "secret_arn": f"{name}-key"}
    return {
        "BUCKET": name,
        "TABLE": name,
        "STATE_MACHINE_ARN": state_machine_arn,
        "PROVIDERS": json.dumps(dict.fromkeys(PRESETS, access)),
        "ENDPOINT_NAME": "dropforge",
        "BASE_COMPONENT": "base",
        "JUDGE_BASE_URL": provider.url,
        "JUDGE_SECRET_ARN": f"{name}-key",
        "POLL_SECONDS": "5",
    }


def _deploy(name: str) -> str:
    """Create what the stacks create; returns the state machine's ARN."""
    s3 = boto3.client("s3")
    s3.create_bucket(Bucket=name)
    s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    create_table(name)
    secret = boto3.client("secretsmanager")
    secret.create_secret(Name=f"{name}-key", SecretString="sk-test")
    arn: str = boto3.client("stepfunctions").create_state_machine(
        name=name,
        definition=json.dumps({"StartAt": "Done", "States": {"Done": {"Type": "Succeed"}}}),
        roleArn=f"arn:aws:iam::123456789012:role/{name}",
    )["stateMachineArn"]
    outputs = {
        "bucket": name,
        "table": name,
        "state_machine_arn": arn,
        "api_url": "http://127.0.0.1:9/prod",
    }
    boto3.client("ssm").put_parameter(
        Name=PARAMETER, Value=json.dumps(outputs), Type="String", Overwrite=True
    )
    return arn
