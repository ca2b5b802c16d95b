"""Run by the emulator's interpreter: the patched parts of ministack that would hold on to memory.

`python memory_probe.py STATE` prints a JSON object with what is left of each.
"""

import io
import json
import os
import sys
import time
import zipfile
from pathlib import Path

from local import emulator, patches

INVOCATIONS = 1500


def main() -> None:
    state = Path(sys.argv[1])
    emulator.configure(1, state, "http://127.0.0.1:1", os.environ)
    patches.apply(state)
    print(json.dumps({"logs": logs(), "workers": workers(), "events": events()}))


def logs() -> list[str]:
    """The request ids in a function's log group after INVOCATIONS of it, oldest first."""
    from ministack.services import cloudwatch_logs, lambda_svc

    function = {"config": {"FunctionName": "f", "LoggingConfig": {"LogGroup": "/probe"}}}
    for number in range(INVOCATIONS):
        lambda_svc._emit_lambda_logs(function, str(number), "printed", False, 1)
    streams = cloudwatch_logs._log_groups["/probe"]["streams"].values()
    return [stream["events"][0]["message"].split()[2] for stream in streams]


def workers() -> dict[str, object]:
    """Of one busy and one idle worker: how many were ended, and which processes live after it."""
    from ministack.core import lambda_runtime
    from ministack.services import lambda_svc

    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("m.py", "def handler(event, context): return 1")
    config = {
        "Runtime": "python3.13", "Handler": "m.handler", "FunctionName": "f",
        "FunctionArn": "arn:aws:lambda:us-east-1:000000000000:function:f",
        "Role": "arn:aws:iam::000000000000:role/probe",
    }  # fmt: skip
    leased = [
        lambda_runtime.acquire_worker(name, config, packed.getvalue())[0] for name in ("a", "b")
    ]
    for worker in leased:
        lambda_runtime.ensure_spawned(worker)
    processes = [worker._proc for worker in leased]
    lambda_runtime.release_worker(leased[1])
    early = lambda_svc.reap_idle_workers(ttl=600)
    time.sleep(0.01)
    ended = lambda_svc.reap_idle_workers(ttl=0)
    alive = [process.poll() is None for process in processes]
    lambda_runtime.kill_workers(leased)
    return {"early": early, "ended": ended, "alive": alive}


def events() -> int:
    """How many events EventBridge holds after one was put."""
    from ministack.services import eventbridge

    entry = {"Source": "probe", "DetailType": "t", "Detail": "{}"}
    eventbridge._put_events({"Entries": [entry]})
    return len(eventbridge._events_log.get("entries") or [])


if __name__ == "__main__":
    main()
