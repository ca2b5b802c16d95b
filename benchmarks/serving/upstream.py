"""The one stub that every subject asks, in a process of its own: a model, a registry, a secret.

`python -m benchmarks.serving.upstream --cpu N` prints its URL. It speaks OpenAI's chat completions
(streamed and whole), and as much of DynamoDB, SQS and Secrets Manager as the chat function uses: a
write's condition always holds. What it took itself is kept and told at /stats, to be subtracted.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import time
from typing import Any

ANSWER = "It ships on Monday, and you get a mail with the number of the parcel when it has left us."
WORDS = ANSWER.split(" ")
KEY = {"ARN": "arn:aws:secretsmanager:us-east-1:1:secret:key", "SecretString": "sk-upstream"}


def completion(answer: str = ANSWER) -> bytes:
    """A whole answer, as OpenAI writes it."""
    message = {"role": "assistant", "content": answer, "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    whole = {
        "id": "chatcmpl-upstream-1",
        "object": "chat.completion",
        "created": 1_795_435_199,
        "model": "ft:shop:2",
        "choices": [choice],
        "usage": {"prompt_tokens": 20, "completion_tokens": 20, "total_tokens": 40},
        "system_fingerprint": "fp_1",
    }
    return json.dumps(whole).encode()


def _chunk(choices: list[dict[str, Any]], **more: Any) -> bytes:
    head = {"id": "chatcmpl-upstream-1", "object": "chat.completion.chunk", "model": "ft:shop:2"}
    return (
        b"data: %b\n\n"
        % json.dumps({**head, "created": 1_795_435_199, "choices": choices, **more}).encode()
    )


def _events() -> list[bytes]:
    said = [{"role": "assistant", "content": ""}, *({"content": f"{word} "} for word in WORDS)]
    events = [_chunk([{"index": 0, "delta": delta, "finish_reason": None}]) for delta in said]
    events.append(_chunk([{"index": 0, "delta": {}, "finish_reason": "stop"}]))
    usage = {"prompt_tokens": 20, "completion_tokens": 20, "total_tokens": 40}
    return [*events, _chunk([], usage=usage), b"data: [DONE]\n\n"]


EVENTS = _events()


Item = dict[str, Any]


def shop(**serve: Any) -> dict[tuple[str, str], Item]:
    """Project `shop`, answered by a model of a hosted provider; `serve` as in project.yaml."""
    model = {"backend": {"S": "openai"}, "model_id": {"S": "ft:shop:2"}, "version": {"S": "v2"}}
    known = {"hash": {"S": "c0ffee"}, "model": {"S": "gpt-4.1-mini"}, "backend": {"S": "openai"}}
    prompt = {"S": "You answer for Lumen."}
    pk = "project#shop"
    return {
        (pk, "champion"): {**model, "revision": {"N": "3"}},
        (pk, "model#v2"): {**model, "created_at": {"N": "1.5"}},
        (pk, "config"): {**known, "system_prompt": prompt, "serve": _attribute(serve)},
    }


def _attribute(value: Any) -> dict[str, Any]:
    """A plain value as DynamoDB writes it."""
    if isinstance(value, dict):
        return {"M": {name: _attribute(inner) for name, inner in value.items()}}
    if isinstance(value, bool):
        return {"BOOL": value}
    if isinstance(value, int | float):
        return {"N": f"{value}"}
    return {"S": str(value)}


class Server:
    """What all connections share.

    Attributes:
        delay, pace: seconds before an answer, and between the parts of a streamed one.
        spent: seconds from a request's last byte to its answer's last, and how many there were.
        firsts: when each stream's first part was written, on CLOCK_MONOTONIC.
    """

    def __init__(self) -> None:
        self.table = shop(cache={"exact": False})
        self.completion = completion()
        self.delay = self.pace = 0.0
        self.spent: dict[str, tuple[int, float]] = {}
        self.firsts: list[float] = []

    def count(self, kind: str, seconds: float) -> None:
        number, total = self.spent.get(kind, (0, 0.0))
        self.spent[kind] = number + 1, total + seconds

    def control(self, path: str, body: bytes) -> bytes:
        """/set takes delay, pace, answer and serve; /stats tells, and starts counting anew."""
        if path == "/set":
            wanted = json.loads(body)
            self.delay, self.pace = wanted.get("delay", 0.0), wanted.get("pace", 0.0)
            self.completion = completion(wanted.get("answer", ANSWER))
            self.table = shop(**wanted.get("serve", {"cache": {"exact": False}}))
        told = json.dumps({"spent": self.spent, "firsts": self.firsts}).encode()
        self.spent, self.firsts = {}, []
        return told

    def aws(self, target: str, body: bytes) -> bytes:
        operation, request = target.partition(".")[2], json.loads(body)
        if operation == "GetSecretValue":
            return json.dumps(KEY).encode()
        if operation == "GetItem":
            item = self.table.get(_key(request["Key"]))
            return json.dumps({"Item": item} if item else {}).encode()
        if operation == "PutItem":
            self.table[_key(request["Item"])] = request["Item"]
        return b"{}"


def _key(item: Item) -> tuple[str, str]:
    return str(item["pk"]["S"]), str(item["sk"]["S"])


class Protocol(asyncio.Protocol):
    """HTTP/1.1 with keep-alive, as far as the subjects speak it."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._read = b""
        self._tasks: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        for task in self._tasks:
            task.cancel()

    def data_received(self, data: bytes) -> None:
        self._read += data
        head, found, rest = self._read.partition(b"\r\n\r\n")
        if not found:
            return
        lines = head.decode("latin-1").split("\r\n")
        headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines[1:])}
        length = int(headers.get("content-length", 0))
        if len(rest) < length:
            return
        self._read = rest[length:]
        path = lines[0].split(" ")[1]
        self._answer(path, headers.get("x-amz-target", ""), rest[:length], time.perf_counter())

    def _answer(self, path: str, target: str, body: bytes, began: float) -> None:
        server = self._server
        if path.endswith("/chat/completions"):
            streamed = b'"stream":true' in body or b'"stream": true' in body
            if streamed or server.delay:
                task = asyncio.ensure_future(self._later(streamed, began))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
                return
            self._whole(200, server.completion)
            server.count("chat", time.perf_counter() - began)
        elif target:
            self._whole(200, server.aws(target, body))
            server.count("aws", time.perf_counter() - began)
        else:
            self._whole(200, server.control(path, body))

    async def _later(self, streamed: bool, began: float) -> None:
        server = self._server
        if server.delay:
            await asyncio.sleep(server.delay)
        if not streamed:
            self._whole(200, server.completion)
        else:
            head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
            self._transport.write(head + b"Transfer-Encoding: chunked\r\n\r\n")
            server.firsts.append(time.perf_counter())
            for event in EVENTS:
                self._transport.write(b"%x\r\n%b\r\n" % (len(event), event))
                if server.pace:
                    await asyncio.sleep(server.pace)
            self._transport.write(b"0\r\n\r\n")
        server.count("chat", time.perf_counter() - began)

    def _whole(self, status: int, body: bytes) -> None:
        head = b"HTTP/1.1 %d OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        self._transport.write(head % (status, len(body)) + body)


async def serve() -> None:
    server = Server()
    loop = asyncio.get_running_loop()
    listening = await loop.create_server(lambda: Protocol(server), "127.0.0.1", 0)
    print(f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}", flush=True)
    await listening.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--cpu", type=int, required=True)
    os.sched_setaffinity(0, {parser.parse_args().cpu})
    asyncio.run(serve())
