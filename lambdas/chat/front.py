"""What each route of the chat API does: one method a route, a Call in, an Answer out."""

from __future__ import annotations

from typing import Any

from dropforge.backends.awsapi import Table
from dropforge.serve import ChatError, ChatRequest, Feedback, InvalidApiKeyError, SimpleChat, parse
from dropforge.serve.arms import Asker
from dropforge.serve.routing import Route, resolve
from lambdas.chat import answers
from lambdas.chat.arms import Arms
from lambdas.chat.edge import Answer, Call
from lambdas.chat.settings import ChatSettings
from lambdas.chat.store import ProjectStore
from lambdas.chat.upstream import Upstream


class Front:
    """The routes over one registry and the models' servers; lives as long as its container.

    Every method raises ChatError for what the caller is told, and nothing else on purpose.
    """

    def __init__(self, settings: ChatSettings) -> None:
        table = Table(settings.table)
        self._store = ProjectStore(table)
        self._arms = Arms(Upstream(settings), table, settings.shadow_queue)

    def health(self, call: Call) -> Answer:
        """GET /health: this function runs. It says nothing of what stands behind it."""
        return Answer.json({"status": "ok"})

    def chat(self, call: Call) -> Answer:
        """POST /v1/chat: a message in, the text of an answer out."""
        request, _ = parse(call.body(), SimpleChat)
        asked = self._complete(call, request.model, request.payload(), request.user)
        completion, route = asked
        text = completion["choices"][0]["message"].get("content") or ""
        body = {"id": completion["id"], "message": text, "model": route.model}
        return Answer.json(body, route=route)

    def chat_completions(self, call: Call) -> Answer:
        """POST /v1/chat/completions: OpenAI's; a stream is delivered whole."""
        request, fields = parse(call.body(), ChatRequest)
        completion, route = self._complete(call, request.model, fields)
        if not request.stream:
            return Answer.json(completion, route=route)
        usage = bool(request.stream_options and request.stream_options.include_usage)
        body = answers.stream(completion, include_usage=usage)
        return Answer(200, body, content_type="text/event-stream; charset=utf-8", route=route)

    def models(self, call: Call) -> Answer:
        """GET /v1/models: every name that the token's project can put into `model`."""
        project = _project(call)
        champion = self._store.champion(project)
        served = self._store.project(project)
        return Answer.json(
            answers.model_list(project, champion, served, self._store.versions(project))
        )

    def model(self, call: Call) -> Answer:
        """GET /v1/models/{id}: one of them; `<project>` alone is the champion."""
        project = _project(call)
        name = call.path.removeprefix("/v1/models/")
        route = resolve(name, project, self._store)
        version = None
        if route.version != "base":
            version = self._store.version(project, route.version)
        choice = name.partition("/")[2] or "champion"
        card = answers.model_card(project, choice, version=version, root=route.model)
        return Answer.json(card, route=route)

    def feedback(self, call: Call) -> Answer:
        """POST /v1/feedback: a rating of one answer, kept for the project."""
        project = _project(call)
        feedback, _ = parse(call.body(), Feedback)
        self._store.rate(project, feedback, by=call.token_name, at=call.at)
        return Answer.json({"id": feedback.id, "object": "feedback", "rating": feedback.rating})

    def _complete(
        self, call: Call, name: str | None, fields: dict[str, Any], user: str | None = None
    ) -> tuple[dict[str, Any], Route]:
        project = _project(call)
        asker = Asker(f"{project}\0{call.token_name}", call.request_id, fields, user)
        route = resolve(name, project, self._store, asker)
        try:
            served = self._store.project(project)
            prompt = served.system_prompt if served else None
            written, route = self._arms.complete(call, route, fields, prompt)
        except ChatError as error:
            error.route = error.route or route
            raise
        body = answers.completion(written, route, request_id=call.request_id, at=call.at)
        return body, route


def _project(call: Call) -> str:
    """The token's project. Without an authorizer in front there is none, and no access."""
    if not call.project:
        raise InvalidApiKeyError("No API key was provided.")
    return call.project
