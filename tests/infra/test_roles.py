"""Do the roles allow what the functions do, and no more?

The pipeline's real functions run in memory, each with the environment of its template. What they
ask of AWS is held against their roles' statements.
"""

from __future__ import annotations

import importlib
import json
import os
import sqlite3
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any

import boto3
import msgspec
import pytest
from moto import mock_aws

from dropforge.artifacts import collected_key, golden_key
from dropforge.backends.registry import SUCCEEDED
from dropforge.errors import DropforgeError, TrainingTimedOutError
from dropforge.serve.collecting import Answered, Turn
from lambdas.approve import ask
from lambdas.collect import keep
from lambdas.drift import handler as drift
from lambdas.extract import handler as extract
from lambdas.schedule import handler as schedule
from lambdas.train import poll
from lambdas.watch import handler as watch
from tests.infra.assembly import Assembly
from tests.infra.roles import Allowed, Roles
from tests.support import promotions
from tests.support import world as worlds
from tests.support.asked import Call, Recorder
from tests.support.moves import NEW, TWO, promoted
from tests.support.provider import Provider, running_provider
from tests.support.tickets import ticket, tickets_csv
from tests.support.world import PROJECT, World, running_world

Handler = Callable[[dict[str, Any], Any], Any]
VERBS = {
    "s3:GetObject": "read",
    "s3:GetObjectVersion": "read",
    "s3:PutObject": "write",
    "s3:DeleteObject": "delete",
}
ELSEWHERE = {
    # No call of theirs goes through botocore.
    *("authorize", "chat", "check", "shadow"),
    # SageMaker, callbacks and alarms, which are not in memory.
    *("approve", "parity", "rollback", "wait", "webhook"),
}
TRAINER = "SageMaker's trainers run in tests/e2e"
UNUSED = {
    # A right to objects that no call above uses, and why it is there.
    ("launch", "read", "models/*/config.json"): TRAINER,
    ("launch", "read", "recipes/*"): TRAINER,
    ("parity", "read", "projects/*"): TRAINER,
    ("parity", "read", "train/*"): TRAINER,
    ("parity", "write", "train/*"): TRAINER,
}


@pytest.fixture(scope="module")
def assembly(with_options: Assembly) -> Assembly:
    """With Spark."""
    return with_options


@dataclass(frozen=True)
class Run:
    """What the functions asked for, and what their roles allow."""

    calls: frozenset[Call]
    roles: Roles

    def of(self, function: str) -> list[Call]:
        return [call for call in self.calls if call.who == function]


@pytest.fixture(scope="module")
def run(assembly: Assembly, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    with (
        mock_aws(),
        pytest.MonkeyPatch.context() as patch,
        running_provider() as provider,
        running_world(patch, provider) as world,
    ):
        roles = Roles(assembly, names(assembly, world))
        recorder = Recorder(patch)
        deploy(assembly, roles, provider, recorder, patch)
        live(world, provider, tmp_path_factory.mktemp("database"))
        yield Run(frozenset(recorder.calls), roles)


def names(assembly: Assembly, world: World) -> dict[str, tuple[str, str]]:
    """(Ref, ARN) of what the world has of the templates' resources; secrets are made."""
    found = {}
    secrets = boto3.client("secretsmanager")
    for name, secret in assembly.properties("AWS::SecretsManager::Secret").items():
        arn = secrets.create_secret(Name=secret["Name"], SecretString="sk-test")["ARN"]
        found[name] = (arn, arn)
    for name in assembly.properties("AWS::S3::Bucket", "DropforgeData"):
        if name.startswith("Bucket"):
            found[name] = (world.bucket, f"arn:aws:s3:::{world.bucket}")
    for name in assembly.properties("AWS::DynamoDB::Table", "DropforgeData"):
        arn = f"arn:aws:dynamodb:us-east-1:123456789012:table/{world.table}"
        found[name] = (world.table, arn)
    for name in assembly.properties("AWS::StepFunctions::StateMachine"):
        found[name] = (world.arn, world.arn)
    return found


def deploy(
    assembly: Assembly,
    roles: Roles,
    provider: Provider,
    recorder: Recorder,
    patch: pytest.MonkeyPatch,
) -> None:
    """From now on each function runs under its name, with its environment and its own clients."""
    stages = {handler: stage for stage, (handler, _) in worlds.STAGES.items()}
    for name, function in assembly.functions().items():
        path, _, attribute = function["Handler"].rpartition(".")
        module = importlib.import_module(path)
        handler = getattr(module, attribute)
        deployed = _deployed(name, handler, environment(roles, name, provider), recorder)
        patch.setattr(module, attribute, deployed)
        if stage := stages.get(handler):
            patch.setitem(worlds.STAGES, stage, (deployed, worlds.STAGES[stage][1]))


def environment(roles: Roles, function: str, provider: Provider) -> dict[str, str]:
    """The function's, but for the addresses of those whom it asks outside of AWS."""
    found = roles.environment(function)
    if "DROPFORGE_PROVIDERS" in found:
        accesses = json.loads(found["DROPFORGE_PROVIDERS"])
        reached = {n: {**access, "base_url": provider.url} for n, access in accesses.items()}
        found["DROPFORGE_PROVIDERS"] = json.dumps(reached)
    if "DROPFORGE_JUDGE_BASE_URL" in found:
        found["DROPFORGE_JUDGE_BASE_URL"] = provider.url
    return found


def _deployed(
    name: str, handler: Handler, variables: dict[str, str], recorder: Recorder
) -> Handler:
    @wraps(handler)
    def call(event: dict[str, Any], context: Any) -> Any:
        with pytest.MonkeyPatch.context() as patch:
            forget()
            for variable in [v for v in os.environ if v.startswith("DROPFORGE_")]:
                patch.delenv(variable)
            for variable, value in variables.items():
                patch.setenv(variable, value)
            return recorder.as_function(name, lambda: handler(event, context))

    return call


def forget() -> None:
    """Every function is a process of its own, that has asked for nothing yet."""
    for module in [m for n, m in sys.modules.items() if n.startswith("lambdas.")]:
        for value in list(vars(module).values()):
            if hasattr(value, "cache_clear"):
                value.cache_clear()


def live(world: World, provider: Provider, folder: Path) -> None:
    """What a deployment goes through: every function that the state machine and the clock call."""
    runs(world, provider)
    refusals(world)
    canary(world)
    golden(world)
    collecting(world)
    extraction(world, folder)


def runs(world: World, provider: Provider) -> None:
    """Promoted, against a champion, given up by one provider, and trained again before its end."""
    promoted(world, provider, TWO + "shutdown: {retrain: true, days: 30}\n")
    again = world.run(world.drop(tickets_csv(250)), until="launch")
    poll.handler(again, None)
    provider.finish(model=NEW)
    world.run(again)
    assert watch.handler({"time": "2027-01-01T03:00:00Z"}, None)["started"]
    late = world.run(world.drop(tickets_csv(260)), until="launch")
    world.fall_back(late, TrainingTimedOutError("Too late."))


def refusals(world: World) -> None:
    """What people are told beside their files, and is taken away when they are right."""
    few = "question,answer\na,b\n"
    refused = world.drop(few)
    with pytest.raises(DropforgeError) as failed:
        world.run(refused)
    world.fail(refused, failed.value)
    world.drop(few)
    world.take(world.put("exports/other/t.csv", few))
    world.put_project("modle: small\n")
    world.put_project()


def canary(world: World) -> None:
    state = promotions.judged(world, "asked", promotions.CANARY)
    ask.handler({**state, "model": state["poll"]["model"], "token": "t"}, None)
    promotions.promote(state)
    promotions.look(state)


def collecting(world: World) -> None:
    """An answer kept, those of a month exported, and then taken out again."""
    world.put_project(PROJECT + "monthly: true\ncollect: {consent: true}\n")
    turns = (Turn("user", "Where is my blue lamp?"),)
    answer = Answered("shop", "a", time.time(), "c", "u", turns, "It ships today.")
    body = msgspec.json.encode(answer).decode()
    record = {"messageId": "m", "body": body, "eventSource": "aws:sqs"}
    assert keep.handler({"Records": [record]}, None) == {"batchItemFailures": []}
    world.registry.put("shop", "feedback#v2#a", {"id": "a", "rating": 1})
    for run in world.registry.items("shop", "run#"):
        world.registry.update("shop", run["sk"], {"status": SUCCEEDED})
    schedule.handler({"time": "2026-12-01T06:00:00Z"}, None)
    world.registry.update("shop", "config", {"collect": None})
    part = {"key": collected_key("shop"), "sha256": "p", "hash": "p", "at": 1, "first_at": 1}
    world.registry.put("shop", "clean#p", part)
    schedule.handler({"time": "2027-01-01T06:00:00Z"}, None)
    assert world.registry.get("shop", "clean#p") is None


def golden(world: World) -> None:
    """The weekly look at the model in production, without and with questions of the owner."""
    assert drift.handler({"time": "2026-11-16T04:00:00Z"}, None)["shop"]
    lines = [
        {"id": f"q{n}", "question": ticket(n)[0], "reference": ticket(n)[1]} for n in range(12)
    ]
    world.take(world.put(golden_key("shop"), "\n".join(map(json.dumps, lines))))
    assert drift.handler({"time": "2026-11-23T04:00:00Z"}, None)["shop"]
    assert drift.handler({"time": "2026-11-30T04:00:00Z"}, None)["shop"]


def extraction(world: World, folder: Path) -> None:
    with closing(sqlite3.connect(folder / "tickets.sqlite", isolation_level=None)) as database:
        database.execute("CREATE TABLE tickets (id INTEGER PRIMARY KEY, question, answer)")
        database.execute("INSERT INTO tickets VALUES (1, 'Where is it?', 'On its way.')")
    url = f"sqlite:///{folder / 'tickets.sqlite'}"
    name = "dropforge/database/shop"
    boto3.client("secretsmanager").create_secret(Name=name, SecretString=url)
    query = "SELECT id, question, answer FROM tickets WHERE id > :cursor ORDER BY id"
    about = f'{{query: "{query}", url_secret: {name}, cursor: id, start: 0}}'
    world.put_project(PROJECT + f"extract: {about}\n")
    assert "1 row" in extract.handler({"project": "shop"}, None)["shop"]


def denied(calls: Iterable[Call], allowed: Iterable[Allowed]) -> list[Call]:
    """The calls that nothing of what is allowed covers."""
    statements = list(allowed)
    return [call for call in sorted(calls) if not any(a.covers(call) for a in statements)]


def unused(calls: Iterable[Call], allowed: Iterable[Allowed]) -> set[tuple[str, str]]:
    """("read", prefix) and the like: the rights to objects that no call uses."""
    done, rights = list(calls), [a for a in allowed if a.action in VERBS]
    used = {right(one) for one in rights if any(map(one.covers, done))}
    return set(map(right, rights)) - used


def right(allowed: Allowed) -> tuple[str, str]:
    return VERBS[allowed.action], allowed.resource.partition("/")[2]


def spark(assembly: Assembly) -> str:
    [role] = [n for n in assembly.properties("AWS::IAM::Role") if n.startswith("SparkJobRole")]
    return role


def test_every_function_may_do_what_it_does(run: Run, assembly: Assembly) -> None:
    for function in assembly.functions():
        assert denied(run.of(function), run.roles.of_function(function)) == []

    assert {call.who for call in run.calls} == set(assembly.functions()) - ELSEWHERE


def test_no_function_may_touch_objects_that_it_has_nothing_to_do_with(
    run: Run, assembly: Assembly
) -> None:
    found = {
        (function, *right)
        for function in assembly.functions()
        for right in unused(run.of(function), run.roles.of_function(function))
    }

    assert found == set(UNUSED)


def test_a_spark_job_may_do_what_the_functions_do_in_whose_place_it_stands(
    run: Run, assembly: Assembly
) -> None:
    """It does so with the same `Store`; the registry is left to the functions."""
    both = run.of("clean") + run.of("validate")
    done = [call for call in both if call.action.startswith("s3:")]
    allowed = run.roles.of(spark(assembly))

    assert denied(done, allowed) == []
    assert unused(done, allowed) == set()


def test_what_a_role_lacks_is_noticed(run: Run) -> None:
    """Each right to objects that was used is taken away once: then a call is denied."""
    for function in {call.who for call in run.calls}:
        done, allowed = run.of(function), run.roles.of_function(function)
        for one in allowed:
            if one.action in VERBS and any(map(one.covers, done)):
                assert denied(done, [a for a in allowed if a.resource != one.resource]), one
