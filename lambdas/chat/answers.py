"""OpenAI's response bodies. Shapes: platform.openai.com/docs/api-reference/chat"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from dropforge.serve.arms import answer_id
from dropforge.serve.routing import Champion, ModelVersion, Route, ServedProject

Body = dict[str, Any]


def completion(upstream: Body, route: Route, *, request_id: str, at: float) -> Body:
    """The upstream's completion under the name of the version that wrote it."""
    return {
        **upstream,
        "id": answer_id(upstream.get("id"), request_id, route.version, route.arm),
        "object": "chat.completion",
        "created": upstream.get("created") or int(at),
        "model": route.model,
    }


def stream(completion: Body, *, include_usage: bool) -> str:
    """A whole completion as server-sent events: role, content and finish of each choice, [DONE]."""
    chunks = _chunks(completion, include_usage=include_usage)
    return "".join(f"data: {msgspec.json.encode(chunk).decode()}\n\n" for chunk in chunks) + (
        "data: [DONE]\n\n"
    )


def _chunks(completion: Body, *, include_usage: bool) -> Iterator[Body]:
    copied = ("id", "created", "model", "system_fingerprint", "service_tier")
    frame: Body = {name: completion[name] for name in copied if name in completion}
    frame["object"] = "chat.completion.chunk"
    if include_usage:
        frame["usage"] = None
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
    if include_usage:
        yield {**frame, "choices": [], "usage": completion.get("usage")}


def model_list(
    project: str,
    champion: Champion | None,
    served: ServedProject | None,
    versions: list[ModelVersion],
) -> Body:
    """Every name a caller can put into `model`. `root` is the version behind an alias."""
    ready = {version.version: version for version in versions if version.model_id}
    cards = []
    if champion:
        root = f"{project}/{champion.version}"
        cards.append(
            model_card(project, "champion", version=ready.get(champion.version), root=root)
        )
        if canary := champion.canary:
            tried = f"{project}/{canary.version}"
            version = ready.get(canary.version)
            cards.append(model_card(project, "challenger", version=version, root=tried))
    if served:
        cards.append(model_card(project, "base"))
    cards += [model_card(project, name, version=version) for name, version in ready.items()]
    return {"object": "list", "data": cards}


def model_card(
    project: str, choice: str, *, version: ModelVersion | None = None, root: str | None = None
) -> Body:
    """One entry of the list. `created` is the version's, and 0 where nobody knows."""
    name = f"{project}/{choice}"
    return {
        "id": name,
        "object": "model",
        "created": int(version.created_at) if version else 0,
        "owned_by": project,
        "root": root or name,
    }
