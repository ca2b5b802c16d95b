"""OpenAI's response bodies. Shapes: platform.openai.com/docs/api-reference/chat"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import msgspec

from dropforge.serve.arms import answer_id
from dropforge.serve.routing import Champion, ModelVersion, ServedProject
from lambdas.chat.edge import Answer
from lambdas.chat.exchange import Exchange

Body = dict[str, Any]


def completion(exchange: Exchange) -> Body:
    """An exchange's completion under the name of the version that wrote it."""
    call, route, upstream = exchange.call, exchange.route, exchange.completion or {}
    return {
        **upstream,
        "id": answer_id(upstream.get("id"), call.request_id, route.version, route.arm),
        "object": "chat.completion",
        "created": upstream.get("created") or int(call.at),
        "model": route.model,
    }


def events(
    exchange: Exchange, answer: Answer, *, include_usage: bool
) -> Generator[bytes, None, None]:
    """An exchange's chunks as server-sent events, under the name of the version that wrote them.

    The first part is no event: it is for `begun`. A failure under way, a crash too, becomes an
    event with OpenAI's error body, and no [DONE] follows it.

    Args:
        answer: is told of such a failure, for the log.
    """
    call, route = exchange.call, exchange.route
    named: Body | None = None
    try:
        yield b""
        for chunk in exchange.chunks or ():
            if not include_usage:
                chunk.pop("usage", None)
                if not chunk.get("choices"):
                    continue
            if named is None:
                called = answer_id(chunk.get("id"), call.request_id, route.version, route.arm)
                named = {"id": called, "object": "chat.completion.chunk", "model": route.model}
                named["created"] = chunk.get("created") or int(call.at)
            yield b"data: " + msgspec.json.encode({**chunk, **named}) + b"\n\n"
        yield b"data: [DONE]\n\n"
    except Exception as error:
        yield b"data: " + msgspec.json.encode(answer.fail(error).body()) + b"\n\n"
    finally:
        if exchange.chunks is not None:  # the caller may have hung up: then so do we
            exchange.chunks.close()


def model_cards(
    project: str,
    champion: Champion | None,
    served: ServedProject | None,
    versions: list[ModelVersion],
) -> list[Body]:
    """Every name of a project that a caller can put into `model`.

    `root` is the version behind an alias.
    """
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
        if served.serve.embeddings:
            cards.append(model_card(project, "embeddings"))
    cards += [model_card(project, name, version=version) for name, version in ready.items()]
    return cards


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
