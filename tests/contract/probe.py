"""A Lambda that does what its event says; deployed into the emulator by conftest.py."""

import os
import time
from pathlib import Path


class DropforgeError(Exception):
    pass


class RetryableError(DropforgeError):
    pass


def handler(event, context):
    if "Records" in event:
        return partial_batch(event)
    if "raise" in event:
        raise {"retryable": RetryableError, "value": ValueError}[event["raise"]](
            event.get("message", "")
        )
    if "fail_until" in event:
        return fail_until(Path(event["counter"]), event["fail_until"])
    if "overlap" in event:
        return overlap(Path(event["overlap"]), event["wanted"])
    if "environment" in event:
        return {name: os.environ.get(name) for name in event["environment"]}
    return event


def fail_until(counter, attempts):
    done = int(counter.read_text()) if counter.exists() else 0
    counter.write_text(str(done + 1))
    if done + 1 < attempts:
        raise RetryableError(f"attempt {done + 1}\nRetryableError: of {attempts}")
    return done + 1


def overlap(folder, wanted):
    """How many of these ran at once, at most, until so many have met and a little longer."""
    mine = folder / str(os.getpid())
    mine.touch()
    until = time.monotonic() + 5
    seen = met = 0
    while time.monotonic() < until and met < 4:
        seen = max(seen, len(list(folder.iterdir())))
        met += seen >= wanted
        time.sleep(0.03)
    mine.unlink()
    return seen


def partial_batch(event):
    """Fails the messages that say `poison`; notes the others in the file that each names."""
    failed = []
    for record in event["Records"]:
        kind, _, note = record["body"].partition(" ")
        if kind == "poison":
            failed.append({"itemIdentifier": record["messageId"]})
        elif kind == "note":
            with Path(note).open("a") as file:
                file.write(record["attributes"]["ApproximateReceiveCount"] + "\n")
    return {"batchItemFailures": failed}
