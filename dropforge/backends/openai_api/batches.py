"""Batches of chat requests: half the price, answered within a day (OpenAI's Batch API).

Shapes and limits: developers.openai.com/api/docs/guides/batch. Azure has the same but for the path
that its requests name, and goes on after the day is over.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, Final

import msgspec
import openai
from openai import OpenAI

from dropforge.backends import Completion
from dropforge.backends.openai_api.errors import translated
from dropforge.errors import BackendError, RetryableError

MOST_REQUESTS: Final = 50_000
MOST_BYTES: Final = 200_000_000
"""Of one file, and so of one batch."""
KEPT_S: Final = 14 * 24 * 3600
"""How long the provider keeps a batch's files; Azure takes no less."""
_NAME: Final = "dropforge_batch"
_LISTED: Final = 1000
"""How many of an account's newest batches are looked at for one whose create was not answered."""
_LOOKS: Final = 3
"""How often it is looked for: lists lag behind creates."""
_ENDED: Final = ("completed", "failed", "expired", "cancelled", "canceled")

Request = tuple[str, dict[str, Any]]
"""A custom id, unique within the batch, and the body of a chat completion."""


class Pending(msgspec.Struct, frozen=True):
    """A batch that has not ended: how many of its requests are done, of how many."""

    done: int
    total: int


class Ended(msgspec.Struct, frozen=True):
    """What a batch brought. A request that stands in neither was not executed.

    Attributes:
        answers: by custom id; an answer that the provider held back is empty.
        failed: why a request failed, by custom id.
        reason: why the batch ended before it was completed; empty where it was.
    """

    answers: dict[str, Completion] = {}
    failed: dict[str, str] = {}
    reason: str = ""


class Batches:
    """A provider's batches.

    Args:
        url: the path that requests name: `/v1/chat/completions`, or Azure's.
        settle: seconds between two looks at what the provider may not show yet.
        most_requests, most_bytes: of one batch; what is more becomes another one.
    """

    def __init__(
        self,
        client: OpenAI,
        url: str = "/v1/chat/completions",
        settle: float = 2.0,
        *,
        most_requests: int = MOST_REQUESTS,
        most_bytes: int = MOST_BYTES,
    ) -> None:
        self._client = client
        self._once = client.with_options(max_retries=0)
        self._url = url
        self._settle = settle
        self._most_requests = most_requests
        self._most_bytes = most_bytes

    def offered(self) -> bool:
        """Whether the server knows batches at all; many that speak OpenAI's protocol do not."""
        with translated():
            try:
                self._client.batches.list(limit=1).data  # noqa: B018 - an answer of another shape
            except openai.APIStatusError as error:
                if error.status_code not in (404, 405):
                    raise
                return False
        return True

    def submit(
        self, name: str, requests: Iterable[Request], *, again: bool = False
    ) -> tuple[str, ...]:
        """Create the batches of these requests, unless they were created before.

        A create is sent once and carries the name; one that was not answered is looked for by it.

        Args:
            name: stands for these requests, in ASCII; the same requests have the same name.
            again: an earlier call may have created some, so that the list is given time to show it.

        Returns:
            Their ids; one, unless the requests are too many for a batch.

        Raises:
            BackendError: the provider refuses, or a request is too large.
            RetryableError: call again with `again`; what was created meanwhile is found then.
        """
        files = self._files(requests)
        parts = ((f"{name}.{part}", data) for part, data in enumerate(files))
        return tuple(self._submit(part, data, again=again) for part, data in parts)

    def _submit(self, name: str, data: bytes, *, again: bool) -> str:
        found = self._find(name, _LOOKS if again else 1)
        if found is not None:
            return found
        expiry: Any = {"anchor": "created_at", "seconds": KEPT_S}
        endpoint: Any = self._url
        with translated():
            file = self._client.files.create(
                file=(f"dropforge-{name}.jsonl", data), purpose="batch", expires_after=expiry
            )
            file_id = file.id
        try:
            with translated():
                created = self._once.batches.create(
                    input_file_id=file_id,
                    endpoint=endpoint,
                    completion_window="24h",
                    metadata={_NAME: name},
                    output_expires_after=expiry,
                    extra_headers={"Idempotency-Key": name},
                )
                return msgspec.convert(created.id, str)
        except RetryableError:
            found = self._find(name, _LOOKS)
            if found is None:
                raise
            return found

    def _find(self, name: str, looks: int) -> str | None:
        """The batch that an earlier create made, if one did."""
        for look in range(looks):
            if look:
                time.sleep(self._settle)
            with translated():
                for batch in islice(self._client.batches.list(limit=100), _LISTED):
                    if (batch.metadata or {}).get(_NAME) == name:
                        return batch.id
        return None

    def _files(self, requests: Iterable[Request]) -> Iterator[bytes]:
        lines: list[bytes] = []
        size = 0
        for custom_id, body in requests:
            request = {"custom_id": custom_id, "method": "POST", "url": self._url, "body": body}
            line = msgspec.json.encode(request) + b"\n"
            if len(line) > self._most_bytes:
                raise BackendError(f"Request {custom_id} is too large for a batch.")
            if len(lines) == self._most_requests or size + len(line) > self._most_bytes:
                yield b"".join(lines)
                lines, size = [], 0
            lines.append(line)
            size += len(line)
        if lines:
            yield b"".join(lines)

    def poll(self, batch_id: str) -> Pending | Ended:
        """Where a batch stands. Asking for an ended one again is allowed, for `KEPT_S` seconds."""
        with translated():
            try:
                answer = self._client.batches.retrieve(batch_id)
            except openai.NotFoundError:
                return Ended(reason="the provider does not know the batch")
            batch = msgspec.convert(answer.to_dict(warnings=False), _Batch)
            if batch.status not in _ENDED:
                count = batch.request_counts or _Counts()
                return Pending(count.completed + count.failed, count.total)
            told = [self._content(file) for file in (batch.error_file_id, batch.output_file_id)]
        return _ended(batch, b"\n".join(told))

    def _content(self, file_id: str | None) -> bytes:
        try:
            return self._client.files.content(file_id).read() if file_id else b""
        except openai.NotFoundError:
            return b""

    def cancel(self, batch_id: str) -> None:
        """Stop a batch; no error where it has ended, or is not there. What was done counts."""
        with translated():
            try:
                self._client.batches.cancel(batch_id)
            except (openai.BadRequestError, openai.ConflictError):
                if self._client.batches.retrieve(batch_id).status not in (*_ENDED, "cancelling"):
                    raise
            except openai.NotFoundError:
                return


class _Counts(msgspec.Struct):
    completed: int = 0
    failed: int = 0
    total: int = 0


class _Error(msgspec.Struct):
    code: str | int | None = None
    message: str | None = None

    def __str__(self) -> str:
        return str(self.message or self.code or "the request failed")


class _Errors(msgspec.Struct):
    data: list[_Error] | None = None


class _Batch(msgspec.Struct):
    status: str
    output_file_id: str | None = None
    error_file_id: str | None = None
    request_counts: _Counts | None = None
    errors: _Errors | None = None


class _Message(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    message: _Message


class _Tokens(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class _Body(msgspec.Struct):
    choices: list[_Choice] | None = None
    usage: _Tokens | None = None
    error: _Error | None = None


class _Response(msgspec.Struct):
    body: _Body | None = None


class _Line(msgspec.Struct):
    """A line of an output or error file."""

    custom_id: str
    response: _Response | None = None
    error: _Error | None = None


def _ended(batch: _Batch, lines: bytes) -> Ended:
    answers: dict[str, Completion] = {}
    failed: dict[str, str] = {}
    for line in _lines(lines):
        body = (line.response and line.response.body) or _Body()
        error = line.error or body.error or _Error()
        if body.choices:
            used = body.usage or _Tokens()
            text = body.choices[0].message.content or ""
            counts = used.prompt_tokens, used.completion_tokens
            answers[line.custom_id] = Completion.of(text, *counts)
        elif error.code == "content_filter":
            answers[line.custom_id] = Completion()
        elif error.code != "batch_expired":
            failed[line.custom_id] = str(error)
    return Ended(answers, failed, _reason(batch))


def _lines(data: bytes) -> Iterator[_Line]:
    """What can be read; a request whose line cannot be has no answer."""
    decoder = msgspec.json.Decoder(_Line)
    for line in data.split(b"\n"):
        try:
            yield decoder.decode(line)
        except (ValueError, RecursionError):
            continue


def _reason(batch: _Batch) -> str:
    if batch.status == "completed":
        return ""
    said = [str(error) for error in (batch.errors and batch.errors.data) or ()]
    return f"{batch.status}: {said[0]}" if said else batch.status
