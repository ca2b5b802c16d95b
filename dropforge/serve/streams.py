"""A streamed answer: chunks as they come, and the whole that they make.

Shapes: platform.openai.com/docs/api-reference/chat-streaming. Pure, and imports nothing but
msgspec.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, TypeVar

from dropforge.serve import UpstreamError
from dropforge.untrusted import UnreadableError, read_json

Body = dict[str, Any]
PartT = TypeVar("PartT")

_NO_COMPLETION = "The model's server answered no chat completion."

_JOINED = frozenset({"role", "content", "tool_calls"})


class Assembly:
    """The completion that the chunks of a stream make.

    Text and tool calls of each choice are joined in the order in which they came, and so is what
    else its deltas hold, as a refusal: texts to a text, anything else to a list. Log probabilities
    are left out.
    """

    def __init__(self) -> None:
        self._frame: Body = {}
        self._choices: dict[int, Body] = {}
        self._usage: Body | None = None

    def add(self, chunk: Body) -> None:
        """One `chat.completion.chunk`. What it has of the wrong type is left out."""
        if not self._frame:
            self._frame = {name: chunk.get(name) for name in ("id", "created", "model")}
        usage = chunk.get("usage")
        if isinstance(usage, dict):
            self._usage = usage
        choices = chunk.get("choices")
        for choice in choices if isinstance(choices, list) else ():
            if isinstance(choice, dict):
                self._join(choice)

    def completion(self) -> Body:
        """What has come so far, as a `chat.completion`; `usage` only where it was told."""
        whole: Body = {
            **self._frame,
            "object": "chat.completion",
            "choices": [_finished(found) for _, found in sorted(self._choices.items())],
        }
        return {**whole, "usage": self._usage} if self._usage else whole

    def _join(self, choice: Body) -> None:
        index = choice.get("index")
        place = index if isinstance(index, int) else 0
        known = self._choices.setdefault(
            place, {"index": place, "finish_reason": None, "text": [], "calls": {}, "more": {}}
        )
        known["finish_reason"] = choice.get("finish_reason") or known["finish_reason"]
        delta = choice.get("delta")
        if not isinstance(delta, dict):
            return
        if isinstance(delta.get("content"), str):
            known["text"].append(delta["content"])
        calls = delta.get("tool_calls")
        for call in calls if isinstance(calls, list) else ():
            if isinstance(call, dict):
                _join_call(known["calls"], call)
        for name in delta.keys() - _JOINED:
            if delta[name]:
                known["more"].setdefault(name, []).append(delta[name])


def _join_call(calls: dict[int, Body], part: Body) -> None:
    index = part.get("index")
    call = calls.setdefault(
        index if isinstance(index, int) else 0,
        {"id": None, "type": "function", "function": {"name": "", "arguments": ""}},
    )
    call["id"] = part.get("id") or call["id"]
    function = part.get("function")
    if isinstance(function, dict):
        for name in ("name", "arguments"):
            if isinstance(function.get(name), str):
                call["function"][name] += function[name]


def _finished(choice: Body) -> Body:
    text = "".join(choice["text"])
    calls = [call for _, call in sorted(choice["calls"].items())]
    message: Body = {"role": "assistant", "content": None if calls and not text else text}
    if calls:
        message["tool_calls"] = calls
    for name, parts in choice["more"].items():
        message[name] = "".join(parts) if all(isinstance(p, str) for p in parts) else parts
    return {
        "index": choice["index"],
        "message": message,
        "finish_reason": choice["finish_reason"],
    }


def chunks(completion: Body) -> Generator[Body, None, None]:
    """A whole completion as chunks: role, content and finish of each choice, then the usage."""
    copied = ("id", "created", "model", "system_fingerprint", "service_tier")
    frame: Body = {name: completion[name] for name in copied if name in completion}
    frame |= {"object": "chat.completion.chunk", "usage": None}
    for choice in completion["choices"]:
        rest = dict(choice["message"])
        role = {"role": rest.pop("role", "assistant"), "content": ""}
        if "tool_calls" in rest:
            calls = enumerate(rest["tool_calls"] or ())
            rest["tool_calls"] = [{"index": index, **call} for index, call in calls]
        delta = {name: value for name, value in rest.items() if value not in (None, [])}
        for part, logprobs, finish in (
            (role, None, None),
            (delta, choice.get("logprobs"), None),
            ({}, None, choice.get("finish_reason") or "stop"),
        ):
            entry = {
                "index": choice.get("index", 0),
                "delta": part,
                "logprobs": logprobs,
                "finish_reason": finish,
            }
            yield {**frame, "choices": [entry]}
    yield {**frame, "choices": [], "usage": completion.get("usage")}


def completion(body: bytes) -> Body:
    """A server's whole completion: at least one choice, each with a message.

    Raises:
        UpstreamError: it is none.
    """
    try:
        whole = read_json(body, dict[str, Any])
    except UnreadableError as error:
        raise UpstreamError(_NO_COMPLETION) from error
    choices = whole.get("choices")
    if not isinstance(choices, list) or not choices or not all(map(_is_choice, choices)):
        raise UpstreamError(_NO_COMPLETION) from UnreadableError("A choice has no message.")
    return whole


def _is_choice(choice: object) -> bool:
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(message, dict):
        return False
    calls = message.get("tool_calls") or []
    return isinstance(calls, list) and all(isinstance(call, dict) for call in calls)


def begun(parts: Generator[PartT, None, None]) -> Generator[PartT, None, None]:
    """The generator, past its first part, which is dropped: it only says that it has begun.

    Closing a generator that has not begun runs none of its `finally`, so what it holds would stay
    open.
    """
    next(parts)
    return parts
