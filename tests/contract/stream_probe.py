"""A function that streams what its event's body says; runs on lambdas/chat/runtime.py."""

import json
import os
import time
from pathlib import Path

served = 0


class Response:
    def __init__(self, plan):
        self.plan = plan
        headers = {"Content-Type": "text/plain", "x-pid": os.getpid(), "x-served": served}
        self.head = {
            "statusCode": plan.get("status", 200),
            "headers": headers | {"x-color": os.environ.get("COLOR", "")},
            "multiValueHeaders": {"x-two": ["a", "b"]},
        }

    def parts(self):
        try:
            for number in range(self.plan.get("parts", 1)):
                if number == self.plan.get("dies_at"):
                    os._exit(3)
                if number == self.plan.get("raises_at"):
                    raise ValueError("in the middle")
                yield f"part {number}\n".encode()
                if "taken" in self.plan:
                    wait_for(Path(self.plan["taken"]) / str(number))
                time.sleep(self.plan.get("pause", 0))
        finally:
            if "closed" in self.plan:
                Path(self.plan["closed"]).touch()

    def finish(self):
        if "afterwork" in self.plan:
            wait_for(Path(self.plan["afterwork"]))
        print(f"after {self.plan.get('name', '')}", flush=True)


def handler(event, context):
    global served
    served += 1
    plan = json.loads(event["body"])
    print(f"before {plan.get('name', '')}")
    if "meet" in plan:
        meet(Path(plan["meet"]), plan["others"])
    if plan.get("exits"):
        os._exit(3)
    if plan.get("raises"):
        raise ValueError("at once")
    time.sleep(plan.get("sleeps", 0))
    plan.setdefault("name", event["requestContext"].get("authorizer", {}).get("project", ""))
    return Response(plan)


def wait_for(file):
    while not file.exists():
        time.sleep(0.01)


def meet(folder, others):
    """Waits until so many invocations are here at once."""
    (folder / str(os.getpid())).touch()
    while len(list(folder.iterdir())) < others:
        time.sleep(0.02)
