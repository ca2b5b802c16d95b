"""One log line per request, which CloudWatch reads as metrics, too. No text of any customer.

Format: docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/
CloudWatch_Embedded_Metric_Format_Specification.html
"""

from __future__ import annotations

import functools
import os
from typing import Any

import msgspec

from lambdas.chat.edge import Answer, Call

_METRICS = (
    {"Name": "ChatRequests", "Unit": "Count"},
    {"Name": "ChatErrors", "Unit": "Count"},
    {"Name": "ChatLatency", "Unit": "Milliseconds"},
    {"Name": "ChatFallbacks", "Unit": "Count"},
)
_FIRST_BYTE = {"Name": "ChatFirstByte", "Unit": "Milliseconds"}


def log_line(
    call: Call, answer: Answer, *, route: str, milliseconds: float, first_byte: float
) -> str:
    """The request in one line of JSON: who, which route and model, how it ended, how long it took.

    Chat requests carry metrics by project, and those of a canary by project and arm, too. The
    first byte's is also there for all projects together: an alarm needs a percentile of one metric.
    ChatErrors counts 5xx, ours and the model's: a caller's mistakes raise no alarm. What
    `call.metrics` holds is counted by project: why another model answered (ChatColdFallbacks and so
    on; ChatFallbacks itself is on every line, so that its average is a share); ArmCountFailed and
    ShadowSendFailed, which a canary lost; CallerHungUp.

    Args:
        route: the pattern of the path. The path itself may hold what a caller made up.
        milliseconds: until the caller had the whole answer.
        first_byte: until the first of it was ready.
    """
    failed = answer.status >= 500 or (answer.parts is not None and answer.code is not None)
    record: dict[str, Any] = {
        "level": "ERROR" if failed else "INFO",
        "service": _service(),
        "message": "request",
        "request_id": call.request_id,
        "method": call.method,
        "route": route,
        "status": answer.status,
        "project": call.project,
        "token_name": call.token_name,
        "ChatLatency": round(milliseconds, 3),
        "ChatFirstByte": round(first_byte, 3),
        "cache": answer.cache,
    }
    if answer.route:
        record["model"], record["arm"] = answer.route.model, answer.route.arm
    if answer.code:
        record["code"], record["cause"] = answer.code, answer.cause
    elif answer.cause:  # the answer was good; what was done after it was not
        record["cause"] = answer.cause
    if call.project and route.startswith("/v1/chat"):
        in_canary = answer.route is not None and answer.route.canary is not None
        directives = _directives(in_canary, tuple(call.metrics))
        record["_aws"] = {"Timestamp": int(call.at * 1000), "CloudWatchMetrics": directives}
        record["ChatFallbacks"] = 0
        record.update(call.metrics)
        record["ChatRequests"] = 1
        record["ChatErrors"] = int(failed)
    return msgspec.json.encode(record).decode()


@functools.lru_cache(maxsize=1)
def _service() -> str:
    return os.environ.get("POWERTOOLS_SERVICE_NAME", "chat")


@functools.lru_cache(maxsize=64)
def _directives(in_canary: bool, counted: tuple[str, ...]) -> msgspec.Raw:
    """What CloudWatch is to count, in JSON; it is the same in nearly every line.

    Args:
        counted: the names of the request's own metrics.
    """
    namespace = os.environ.get("POWERTOOLS_METRICS_NAMESPACE", "Dropforge")
    dimensions = [["project"], ["project", "arm"]] if in_canary else [["project"]]
    directives: list[dict[str, Any]] = [
        {"Namespace": namespace, "Dimensions": dimensions, "Metrics": _METRICS},
        {"Namespace": namespace, "Dimensions": [["project"], []], "Metrics": [_FIRST_BYTE]},
    ]
    if counted:
        metrics = [{"Name": name, "Unit": "Count"} for name in counted if name != "ChatFallbacks"]
        directives.append({"Namespace": namespace, "Dimensions": [["project"]], "Metrics": metrics})
    return msgspec.Raw(msgspec.json.encode(directives))
