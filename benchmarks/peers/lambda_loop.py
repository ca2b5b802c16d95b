"""A minimal client of Lambda's Runtime API for a handler that returns its whole answer.

`python lambda_loop.py module.function`. Standard library only: it costs a peer less than AWS's own
runtime client would.
"""

import http.client
import importlib
import json
import os
import sys

PREFIX = "/2018-06-01/runtime/invocation/"


def main() -> None:
    name, _, function = sys.argv[1].rpartition(".")
    handler = getattr(importlib.import_module(name), function)
    connection = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
    while True:
        connection.request("GET", f"{PREFIX}next")
        answer = connection.getresponse()
        request_id = answer.headers["Lambda-Runtime-Aws-Request-Id"]
        body = json.dumps(handler(json.loads(answer.read()), None)).encode()
        connection.request("POST", f"{PREFIX}{request_id}/response", body)
        connection.getresponse().read()


if __name__ == "__main__":
    main()
