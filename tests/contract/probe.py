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
    if "authorizationToken" in event:
        return authorize(event)
    if "requestContext" in event:
        return api(event)
    if "raise" in event:
        raise {"retryable": RetryableError, "value": ValueError}[event["raise"]](
            event.get("message", "")
        )
    if "fail_until" in event:
        return fail_until(Path(event["counter"]), event["fail_until"])
    if "overlap" in event:
        return overlap(Path(event["overlap"]))
    if "environment" in event:
        return {name: os.environ.get(name) for name in event["environment"]}
    return event


def fail_until(counter, attempts):
    done = int(counter.read_text()) if counter.exists() else 0
    counter.write_text(str(done + 1))
    if done + 1 < attempts:
        raise RetryableError(f"attempt {done + 1}\nRetryableError: of {attempts}")
    return done + 1


def overlap(folder):
    """How many of these ran at once, at most, as seen by this one."""
    mine = folder / str(os.getpid())
    mine.touch()
    seen = 0
    for _ in range(6):
        seen = max(seen, len(list(folder.iterdir())))
        time.sleep(0.05)
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


def authorize(event):
    token = event["authorizationToken"].removeprefix("Bearer ")
    if token == "none":
        raise Exception("Unauthorized")  # noqa: TRY002 - the very words are the API's
    return {
        "principalId": "client",
        "policyDocument": {
            "Version": "2012-10-17",
            "Statement": [
                {
                    "Action": "execute-api:Invoke",
                    "Effect": "Allow" if token.startswith("good") else "Deny",
                    "Resource": event["methodArn"],
                }
            ],
        },
        "context": {"project": "acme"},
        "usageIdentifierKey": token,
    }


def api(event):
    return {
        "statusCode": 201,
        "headers": {"x-dropforge-model": "v1", "Content-Type": "application/json"},
        "body": event["requestContext"]["authorizer"]["project"]
        + " "
        + event["path"]
        + " "
        + event["body"],
    }
