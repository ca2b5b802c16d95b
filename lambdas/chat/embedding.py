"""Embeddings of a project's own model, from the servers that answer its chats."""

from __future__ import annotations

import base64
import struct
from math import isfinite
from typing import Any, TypeVar
from urllib.parse import urlsplit

import msgspec

from dropforge.backends.connection import Connection
from dropforge.errors import BackendError
from dropforge.providers import is_hosted
from dropforge.serve import (
    Embedding,
    EmbeddingList,
    EmbeddingRequest,
    ModelNotFoundError,
    UpstreamError,
)
from dropforge.serve.options import ServedModel
from dropforge.serve.routing import Route
from dropforge.untrusted import UnreadableError, read_json
from lambdas.chat.upstream import Upstream, _failure, _refusal

_connections: dict[str, Connection] = {}
_NONE = "The embeddings model's server answered no embeddings."


class _Embedding(msgspec.Struct):
    embedding: list[float]
    index: int = 0


class _Embeddings(msgspec.Struct):
    data: list[_Embedding]


EntryT = TypeVar("EntryT", _Embedding, Embedding)


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
        found = read_json(_asked(upstream, model, payload, deadline), _Embeddings)
    except UnreadableError as error:
        raise UpstreamError(_NONE) from error
    return [one.embedding for one in _in_order(found.data, len(texts))]


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
        ChatError: as `Upstream.complete`; other than one vector for each input is an UpstreamError.
    """
    body = _asked(upstream, model, fields, deadline)
    in_base64 = request.encoding_format == "base64"
    try:
        found = read_json(body, EmbeddingList)
        for one in found.data:
            one.embedding = _encoded(one.embedding, in_base64=in_base64)
    except (UnreadableError, ValueError, OverflowError, struct.error) as error:
        raise UpstreamError(_NONE) from error
    found.data = _in_order(found.data, _inputs(request))
    return found


def _in_order(vectors: list[EntryT], inputs: int) -> list[EntryT]:
    """Raises UpstreamError where there is not one for each input."""
    ordered = sorted(vectors, key=lambda one: one.index)
    if [one.index for one in ordered] != list(range(inputs)):
        raise UpstreamError("The embeddings model answered for other inputs.")
    return ordered


def _inputs(request: EmbeddingRequest) -> int:
    given = request.input
    one = isinstance(given, str) or isinstance(given[0], int)
    return 1 if one else len(given)


def _encoded(vector: list[float] | str, *, in_base64: bool) -> list[float] | str:
    if isinstance(vector, list) and in_base64:
        return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
    if isinstance(vector, str) and not in_base64:
        packed = base64.b64decode(vector, validate=True)
        values = list(struct.unpack(f"<{len(packed) // 4}f", packed))
        if not all(map(isfinite, values)):
            raise ValueError("no numbers")
        return values
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
    except BackendError as error:
        raise _failure(error) from error


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
