"""Embeddings of a project's own model, from the servers that answer its chats."""

from __future__ import annotations

import base64
import struct
from typing import Any
from urllib.parse import urlsplit

import msgspec

from dropforge.backends.connection import Connection, DeadlineError, HttpError
from dropforge.providers import is_hosted
from dropforge.serve import (
    EmbeddingList,
    EmbeddingRequest,
    ModelNotFoundError,
    UpstreamError,
    UpstreamTimeoutError,
)
from dropforge.serve.options import ServedModel
from dropforge.serve.routing import Route
from lambdas.chat.upstream import Upstream, _refusal

_connections: dict[str, Connection] = {}


class _Embedding(msgspec.Struct):
    embedding: list[float]
    index: int = 0


class _Embeddings(msgspec.Struct):
    data: list[_Embedding]


def embed(
    upstream: Upstream, model: ServedModel, texts: list[str], deadline: float
) -> list[list[float]]:
    """A vector for each text, in their order; not scaled to any length.

    Args:
        upstream: knows the servers, and their keys.
        deadline: a point on time.monotonic().

    Raises:
        ChatError: as `Upstream.complete`.
    """
    payload = {"input": texts, "encoding_format": "float"}
    try:
        found = msgspec.json.decode(_asked(upstream, model, payload, deadline), type=_Embeddings)
    except msgspec.MsgspecError as error:
        raise UpstreamError("The embeddings model's server answered no embeddings.") from error
    if sorted(one.index for one in found.data) != list(range(len(texts))):
        raise UpstreamError("The embeddings model answered for other texts.")
    return [one.embedding for one in sorted(found.data, key=lambda one: one.index)]


def embedding_route(name: str | None, project: str, model: ServedModel | None) -> Route:
    """The route of a project's embeddings model; callers name it `<project>/embeddings`.

    Args:
        name: what the caller put into `model`, if anything.

    Raises:
        ModelNotFoundError: the project has none, or another model is named.
    """
    if model is None:
        raise ModelNotFoundError(
            f"Project `{project}` has no embeddings.",
            hint="Name a backend and a model in `serve.embeddings` of its project.yaml.",
            param="model",
        )
    called = f"{project}/embeddings"
    if name not in (None, "", project, called):
        raise ModelNotFoundError(
            f"The model `{name}` does not exist or gives no embeddings.",
            hint=f"Ask for `{called}`." if (name or "").startswith(f"{project}/") else None,
            param="model",
        )
    return Route(project, "embeddings", "pinned", model.backend, model.model)


def embedded(
    upstream: Upstream,
    model: ServedModel,
    request: EmbeddingRequest,
    fields: dict[str, Any],
    deadline: float,
) -> EmbeddingList:
    """The answer to a request of the API, in the encoding that it asks for.

    Some servers know only one of them, so what another one wrote is rewritten.

    Raises:
        ChatError: as `Upstream.complete`.
    """
    try:
        body = _asked(upstream, model, fields, deadline)
        found = msgspec.json.decode(body, type=EmbeddingList)
        for one in found.data:
            one.embedding = _encoded(one.embedding, in_base64=request.encoding_format == "base64")
    except (msgspec.MsgspecError, RecursionError, ValueError, struct.error) as error:
        raise UpstreamError("The embeddings model's server answered no embeddings.") from error
    return found


def _encoded(vector: list[float] | str, *, in_base64: bool) -> list[float] | str:
    if isinstance(vector, list) and in_base64:
        return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
    if isinstance(vector, str) and not in_base64:
        packed = base64.b64decode(vector, validate=True)
        return list(struct.unpack(f"<{len(packed) // 4}f", packed))
    return vector


def _asked(
    upstream: Upstream, model: ServedModel, fields: dict[str, Any], deadline: float
) -> bytes:
    """What the model's server answers to these fields, under its own name for the model."""
    payload = {name: value for name, value in fields.items() if name != "model"}
    if is_hosted(model.backend):
        payload["model"] = model.model
    ask = _ask_hosted if is_hosted(model.backend) else _ask_sagemaker
    try:
        return ask(upstream, model, msgspec.json.encode(payload), deadline)
    except DeadlineError as error:
        raise UpstreamTimeoutError("The embeddings model did not answer in time.") from error
    except HttpError as error:
        raise UpstreamError("The connection to the embeddings model failed.") from error


def _ask_hosted(upstream: Upstream, model: ServedModel, body: bytes, deadline: float) -> bytes:
    access = upstream._settings.providers.get(model.backend)
    if access is None:
        raise UpstreamError("The embeddings' provider is not part of this deployment any more.")
    headers = {"Content-Type": "application/json", "Accept": "application/json"}
    if key := upstream._read_key(access.secret_arn, deadline):
        headers["Authorization"] = f"Bearer {key}"
    connection = _connections.get(access.base_url)
    if connection is None:
        connection = _connections[access.base_url] = Connection(access.base_url)
    target = urlsplit(access.base_url).path.rstrip("/") + "/embeddings"
    answer = connection.request("POST", target, body, headers, deadline=deadline, resend=True)
    if answer.status != 200:
        raise _refusal(answer)
    return answer.body


def _ask_sagemaker(upstream: Upstream, model: ServedModel, body: bytes, deadline: float) -> bytes:
    route = Route("", "embeddings", "pinned", model.backend, model.model)
    return upstream._ask_sagemaker(route, body, deadline)
