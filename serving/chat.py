"""The route /v1/chat/completions: an answer comes whole, or as it is made."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any, Literal

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool

from serving.batch import Generation
from serving.engine import Engine
from serving.errors import ApiError
from serving.judge import JUDGE_MODEL, MalformedPromptError, ReferenceJudge
from serving.models import Catalogue
from serving.store import Record, new_id, now
from serving.stream import Piece, TextStream

DEFAULT_MAX_TOKENS = 256


class Message(BaseModel):
    """One message; its content is a text, or parts of which only texts are understood."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[dict[str, Any]]

    def plain(self) -> dict[str, str]:
        """The message as chat templates take it.

        Raises:
            ApiError: 400, a part is not a text.
        """
        content = self.content
        if not isinstance(content, str):
            if any(part.get("type") != "text" for part in content):
                raise ApiError(400, "Only text content is supported.", param="messages")
            content = "".join(str(part.get("text", "")) for part in content)
        return {"role": "system" if self.role == "developer" else self.role, "content": content}


class StreamOptions(BaseModel):
    """Whether a stream ends with a chunk that holds the usage."""

    include_usage: bool = False


class ChatRequest(BaseModel):
    """The body of a chat completion. Unlike OpenAI's, the default temperature is 0.

    `return_token_ids` is vLLM's: the answer then has `prompt_token_ids`, and its choice `token_ids`
    with the end token, if one was reached.
    """

    model: str
    messages: list[Message] = Field(min_length=1)
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    seed: int | None = None
    stop: str | list[str] | None = None
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    n: int | None = None
    tools: list[Any] | None = None
    logprobs: bool | None = None
    response_format: dict[str, Any] | None = None
    return_token_ids: bool | None = None

    def check_supported(self) -> None:
        """Refuse what would change the answer and is not there.

        Raises:
            ApiError: 400, naming the parameter.
        """
        json_wanted = (self.response_format or {"type": "text"}).get("type") != "text"
        unsupported = {
            "n": self.n not in (None, 1),
            "tools": bool(self.tools),
            "logprobs": bool(self.logprobs),
            "response_format": json_wanted and self.model != JUDGE_MODEL,
            "return_token_ids": bool(self.return_token_ids and self.stream),
        }
        for name, wanted in unsupported.items():
            if wanted:
                message = f"Unsupported parameter: '{name}' is not supported with this model."
                raise ApiError(400, message, param=name, code="unsupported_parameter")


@dataclass
class Answer:
    """An answer under way: `pieces` gives it bit by bit, and fills `output` with its token ids.

    The judge has no token ids; `prompt_tokens` counts its words.
    """

    prompt_tokens: int
    pieces: AsyncGenerator[Piece, None]
    prompt: list[int] | None = None
    output: list[int] | None = None


class Answers:
    """Answers chat requests with the language model or the reference judge."""

    def __init__(self, engine: Engine, catalogue: Catalogue, judge: ReferenceJudge) -> None:
        self._engine = engine
        self._catalogue = catalogue
        self._judge = judge

    async def prepare(self, body: ChatRequest) -> Answer:
        """The answer to be; errors come before its first piece.

        Raises:
            ApiError: the model is unknown, the prompt too long or malformed, a parameter
            unsupported.
        """
        body.check_supported()
        messages = [message.plain() for message in body.messages]
        if body.model == JUDGE_MODEL:
            return await self._prepare_judge(messages)
        adapter = self._catalogue.chat(body.model).adapter
        await run_in_threadpool(self._engine.ready.wait)
        if self._engine.failure:
            raise ApiError(503, f"The model could not be loaded: {self._engine.failure}")
        prompt = self._engine.encode(messages)
        room = self._engine.context - len(prompt)
        wanted = body.max_completion_tokens or body.max_tokens
        if room < (wanted or 1):
            raise ApiError(
                400,
                f"This model's maximum context length is {self._engine.context} tokens. You asked "
                f"for {wanted or 1} more than the {len(prompt)} of your messages.",
                param="messages",
                code="context_length_exceeded",
            )
        limit = wanted or min(room, DEFAULT_MAX_TOKENS)
        output: list[int] = []
        pieces = self._generate(body, adapter, prompt, limit, output)
        return Answer(len(prompt), pieces, prompt, output)

    async def _prepare_judge(self, messages: list[dict[str, str]]) -> Answer:
        prompt = next((m["content"] for m in reversed(messages) if m["role"] == "user"), "")
        try:
            verdict = await run_in_threadpool(self._judge.answer, prompt)
        except MalformedPromptError as error:
            raise ApiError(400, str(error), param="messages", code="invalid_prompt") from error

        async def whole() -> AsyncGenerator[Piece, None]:
            yield Piece(verdict, len(verdict.split()), "stop")

        return Answer(len(prompt.split()), whole())

    async def _generate(
        self, body: ChatRequest, adapter: Any, prompt: list[int], limit: int, output: list[int]
    ) -> AsyncGenerator[Piece, None]:
        loop = asyncio.get_running_loop()
        arrivals: asyncio.Queue[int | Exception | None] = asyncio.Queue()

        def arrived(item: int | Exception | None) -> None:
            loop.call_soon_threadsafe(arrivals.put_nowait, item)

        seed = body.seed if body.seed is not None else secrets.randbits(62)
        generation = Generation(
            adapter=adapter,
            prompt=prompt,
            max_tokens=limit,
            temperature=body.temperature or 0.0,
            top_p=body.top_p or 1.0,
            seed=seed & (2**63 - 1),
            on_token=arrived,
            on_error=arrived,
        )
        stops = [body.stop] if isinstance(body.stop, str) else body.stop or []
        stream = TextStream(self._engine.tokenizer, stops)
        self._engine.submit(generation)
        try:
            while (token := await arrivals.get()) is not None:
                if isinstance(token, Exception):
                    raise ApiError(500, f"Generation failed: {token}") from token
                output.append(token)
                text = stream.add(token)
                if text and not stream.stopped:
                    yield Piece(text, len(output))
                if stream.stopped:
                    yield Piece(text, len(output), "stop")
                    return
            tokens = len(output)
            if generation.ended is not None:
                output.append(generation.ended)
            yield Piece(stream.finish(), tokens, "length" if tokens >= limit else "stop")
        finally:
            generation.cancelled = True


def usage(prompt_tokens: int, completion_tokens: int) -> Record:
    """Token counts; the judge, which has no tokens, counts words."""
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    }


async def collect(body: ChatRequest, request: Request, made: Answer) -> Response:
    """The whole answer as one JSON body; generation ends when the client hangs up."""
    text, last, pieces = "", Piece("", 0), made.pieces
    async for last in pieces:
        text += last.text
        if last.tokens % 16 == 0 and await request.is_disconnected():
            break
    await pieces.aclose()
    message = {"role": "assistant", "content": text, "refusal": None}
    choice: Record = {"index": 0, "message": message, "finish_reason": last.finish}
    choice["logprobs"] = None
    answer = {
        "id": new_id("chatcmpl-"),
        "object": "chat.completion",
        "created": now(),
        "model": body.model,
        "choices": [choice],
        "usage": usage(made.prompt_tokens, last.tokens),
    }
    if body.return_token_ids:
        answer["prompt_token_ids"], choice["token_ids"] = made.prompt, made.output
    return JSONResponse(answer)


async def events(body: ChatRequest, made: Answer) -> AsyncGenerator[str, None]:
    """The answer as server-sent events, ending with [DONE]."""
    counted = body.stream_options is not None and body.stream_options.include_usage
    head: Record = {
        "id": new_id("chatcmpl-"),
        "object": "chat.completion.chunk",
        "created": now(),
        "model": body.model,
    }

    def chunk(delta: Record, finish: str | None = None) -> str:
        choice = {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}
        return sse(head | {"choices": [choice]} | ({"usage": None} if counted else {}))

    yield chunk({"role": "assistant", "content": ""})
    last = Piece("", 0)
    try:
        async for last in made.pieces:
            if last.text:
                yield chunk({"content": last.text})
    except ApiError as error:
        yield sse(error.body())
        return
    yield chunk({}, last.finish)
    if counted:
        yield sse(head | {"choices": [], "usage": usage(made.prompt_tokens, last.tokens)})
    yield "data: [DONE]\n\n"


def sse(body: Record) -> str:
    """One server-sent event."""
    return f"data: {json.dumps(body)}\n\n"


def chat_routes(answers: Answers) -> APIRouter:
    """/v1/chat/completions."""
    router = APIRouter(prefix="/v1/chat")

    @router.post("/completions")
    async def complete(body: ChatRequest, request: Request) -> Response:
        made = await answers.prepare(body)
        if not body.stream:
            return await collect(body, request, made)
        stream = events(body, made)
        return StreamingResponse(stream, media_type="text/event-stream")

    return router
