"""A model that passed the gate -> a question to a person, whose answer the run waits for.

Invoked with `lambda:invoke.waitForTaskToken`: {"run": …, "evaluation": …, "model": …, "token": …}.
A message that cannot be sent stops nothing: `dropforge approve` lists what waits.
"""

from __future__ import annotations

import json
import time
from functools import cache
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from dropforge.approval import VALID_S, link, message, numbers, subject
from dropforge.artifacts import Verdict, evaluation_key
from dropforge.backends.approvals import Approvals
from dropforge.settings import AskSettings
from lambdas.edge import Edge, Event, Result, logger, secret, stage


@stage("promote", AskSettings)
def handler(edge: Edge, event: Event) -> Result:
    project, version = edge.run.project, str(event["model"]["version"])
    address = event["evaluation"]["hash"]
    verdict = edge.store.load(evaluation_key(project, address), Verdict)
    now = int(time.time())
    question = {
        "token": event["token"],
        "version": version,
        "evaluation": address,
        "numbers": [list(row) for row in numbers(verdict)],
        "reasons": list(verdict.decision.reasons),
        "asked_at": now,
        "expires_at": now + VALID_S,
    }
    approvals = Approvals(edge.registry, _client("stepfunctions"))
    known = approvals.ask(project, edge.run.run_id, question)
    if "decided_at" in known:
        return {"told": approvals.tell(known)}
    edge.note({"approval": {name: question[name] for name in ("version", "asked_at")}})
    edge.count(ApprovalsAsked=1)
    return {"sent": _sent(edge, question)}


def _sent(edge: Edge, question: dict[str, Any]) -> bool:
    """Tell the topic; False where that did not work."""
    settings = AskSettings.from_environment()
    project, version, expires = edge.run.project, question["version"], question["expires_at"]
    try:
        key = secret(settings.approval_secret_arn)
        url = link(_api_url(settings), key, project, edge.run.run_id, expires)
        _client("sns").publish(
            TopicArn=settings.topic_arn,
            Subject=subject(project, version),
            Message=message(project, version, question["numbers"], url, expires),
        )
    except (BotoCoreError, ClientError) as error:
        logger.warning("question not sent", error=type(error).__name__)
        return False
    return True


def _api_url(settings: AskSettings) -> str:
    """The HTTPS API's address: the stack that knows it is deployed after this function's."""
    found = _client("ssm").get_parameter(Name=settings.deployment_parameter)
    return str(json.loads(found["Parameter"]["Value"])["api_url"])


@cache
def _client(service: str) -> Any:
    return boto3.client(service)
