"""What each route of the chat API does: one method a route, a Call in, an Answer out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dropforge.backends.awsapi import Table
from dropforge.serve import (
    ChatError,
    ChatRequest,
    EmbeddingRequest,
    Feedback,
    InvalidApiKeyError,
    InvalidRequestError,
    SimpleChat,
    parse,
)
from dropforge.serve.limits import check_embedding_limits
from dropforge.serve.options import ServedModel, ServeOptions
from dropforge.serve.routing import resolve
from dropforge.serve.streams import begun
from lambdas.chat import answers
from lambdas.chat.answering import Answering
from lambdas.chat.edge import Answer, Call
from lambdas.chat.settings import ChatSettings
from lambdas.chat.store import ProjectStore
from lambdas.chat.upstream import Upstream

if TYPE_CHECKING:
    from lambdas.chat.callers import Callers


class Front:
    """The routes over one registry and the models' servers; lives as long as its container.

    Every method raises ChatError for what the caller is told, and nothing else on purpose.
    """

    def __init__(self, settings: ChatSettings) -> None:
        table = Table(settings.table)
        self._store = ProjectStore(table)
        self._answering = Answering(settings, table, self._store)
        self._settings = settings
        self._table = table
        self._callers: Callers | None = None
        self._embedder: Upstream | None = None

    def admit(self, call: Call) -> None:
        """Fills in what the IAM principal that signed the request may do."""
        from lambdas.chat.callers import Callers

        self._callers = self._callers or Callers(self._table)
        self._callers.admit(call)

    def page(self, call: Call) -> Answer:
        """GET /: the chat page, for a browser."""
        from lambdas.chat.static import page

        return page()

    def description(self, call: Call) -> Answer:
        """GET /openapi.json: what is served here, for programs."""
        from lambdas.chat.static import description

        return description()

    def health(self, call: Call) -> Answer:
        """GET /health: this function runs. It says nothing of what stands behind it."""
        return Answer.json({"status": "ok"})

    def chat(self, call: Call) -> Answer:
        """POST /v1/chat: a message in, the text of an answer out."""
        request, _ = parse(call.body(), SimpleChat)
        _choose(call, request.model)
        exchange = self._answering.answer(
            call, request.model, request.payload(), stream=False, user=request.user
        )
        whole = answers.completion(exchange)
        text = whole["choices"][0]["message"].get("content") or ""
        body = {"id": whole["id"], "message": text, "model": exchange.route.model}
        return Answer.json(body, route=exchange.route, cache=exchange.cache)

    def chat_completions(self, call: Call) -> Answer:
        """POST /v1/chat/completions: OpenAI's."""
        request, fields = parse(call.body(), ChatRequest)
        _choose(call, request.model)
        stream = bool(request.stream)
        exchange = self._answering.answer(call, request.model, fields, stream=stream)
        about: dict[str, Any] = {"route": exchange.route, "cache": exchange.cache}
        if not stream:
            return Answer.json(answers.completion(exchange), **about)
        answer = Answer(200, content_type="text/event-stream; charset=utf-8", **about)
        usage = bool(request.stream_options and request.stream_options.include_usage)
        answer.parts = begun(answers.events(exchange, answer, include_usage=usage))
        return answer

    def embeddings(self, call: Call) -> Answer:
        """POST /v1/embeddings: OpenAI's, where the project has a model for them."""
        from lambdas.chat.embedding import embedded, embedding_route

        request, fields = parse(call.body(), EmbeddingRequest)
        project = _choose(call, request.model)
        served = self._store.project(project)
        options = served.serve if served else ServeOptions()
        route = embedding_route(request.model, project, options.embeddings)
        check_embedding_limits(request, options)
        self._embedder = self._embedder or Upstream(self._settings)
        model = ServedModel(route.backend, route.model_id)
        try:
            found = embedded(self._embedder, model, request, fields, call.deadline)
        except ChatError as error:
            error.route = route
            raise
        found.model = route.model
        return Answer.json(found, route=route)

    def models(self, call: Call) -> Answer:
        """GET /v1/models: every name that the token's projects can put into `model`."""
        cards = []
        for project in _projects(call):
            champion = self._store.champion(project)
            served = self._store.project(project)
            versions = self._store.versions(project)
            cards += answers.model_cards(project, champion, served, versions)
        return Answer.json({"object": "list", "data": cards})

    def model(self, call: Call) -> Answer:
        """GET /v1/models/{id}: one of them; `<project>` alone is the champion."""
        name = call.path.removeprefix("/v1/models/")
        project = _choose(call, name)
        if name == f"{project}/embeddings" and (served := self._store.project(project)):
            from lambdas.chat.embedding import embedding_route

            route = embedding_route(name, project, served.serve.embeddings)
            return Answer.json(answers.model_card(project, "embeddings"), route=route)
        route = resolve(name, project, self._store)
        version = None
        if route.version != "base":
            version = self._store.version(project, route.version)
        choice = name.partition("/")[2] or "champion"
        card = answers.model_card(project, choice, version=version, root=route.model)
        return Answer.json(card, route=route)

    def feedback(self, call: Call) -> Answer:
        """POST /v1/feedback: a rating of one answer, kept for the project."""
        feedback, _ = parse(call.body(), Feedback)
        project = _choose(call, feedback.model)
        self._store.rate(project, feedback, by=call.token_name, at=call.at)
        self._answering.rated(call, feedback)
        return Answer.json({"id": feedback.id, "object": "feedback", "rating": feedback.rating})


def _projects(call: Call) -> tuple[str, ...]:
    """The token's projects. Without an authorizer in front there are none, and no access."""
    if not call.projects:
        raise InvalidApiKeyError("No API key was provided.")
    return call.projects


def _choose(call: Call, name: str | None) -> str:
    """The project of the call: the one that the model's name begins with, or the token's only one.

    A name that begins with no project of the token stays for `resolve` to refuse.
    """
    projects = _projects(call)
    named = (name or "").partition("/")[0]
    if named in projects:
        call.project = named
    elif not call.project and not name:
        raise InvalidRequestError(
            f"This token may use {len(projects)} projects: begin `model` with one of them.",
            param="model",
        )
    return call.project
