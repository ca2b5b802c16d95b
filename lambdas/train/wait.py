"""A task token of a run that waits -> kept until the provider's webhook says that the job ended.

Invoked with `lambda:invoke.waitForTaskToken`: {"run": …, "job": {"job_id": …}, "token": …}. Where
the webhook came first, the task is answered at once. The run waits no longer than it would between
two polls, so a webhook that never comes costs nothing.
"""

from __future__ import annotations

import time

from dropforge.settings import Settings
from lambdas.edge import Edge, Event, Result, stage
from lambdas.webhook.task import KEPT_S, go_on


@stage("train", Settings)
def handler(edge: Edge, event: Event) -> Result:
    job_id, token = str(event["job"]["job_id"]), str(event["token"])
    arrived = edge.registry.expect_webhook(job_id, token, int(time.time()) + KEPT_S)
    if arrived:
        go_on(token)
    return {"arrived": arrived}
