"""An alarm of the API rings -> every canary ends at once; the champions get all traffic back.

The alarms watch the whole API, so they do not say whose fault it is: the challengers are not marked
as rolled back, and their next run may try again.
"""

from __future__ import annotations

import time

from dropforge.backends.pointers import stop_canary
from dropforge.settings import Settings
from lambdas.edge import Event, Result, count_metrics, logger, registry


def handler(event: Event, context: object) -> Result:
    """`event`: EventBridge's "CloudWatch Alarm State Change"."""
    detail = event["detail"]
    if detail["state"]["value"] != "ALARM":
        return {"ended": []}
    known = registry(Settings.from_environment().table)
    why = f"alarm {detail['alarmName']}"
    now = time.time()
    ended = [
        project
        for project in known.projects()
        if stop_canary(known, project, who="alarm", why=why, at=now)
    ]
    for project in ended:
        logger.info("canary ended", project=project, why=why)
        count_metrics(project, {"CanariesEnded": 1, "CanaryShare": 0})
    return {"ended": ended}
