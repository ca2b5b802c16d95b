"""Answers that are given again: which ones, under which key, and how they are kept from mix-ups.

A key is made of all that decides an answer, so what changes (another tenant, model version, system
prompt or parameter) is another key, and nothing has to be deleted when a model is promoted. Only a
hash of the key is stored, and each entry carries a code made with the key itself: an entry that was
copied, swapped, cut or edited does not fit the request that finds it.

Pure, and imports nothing but msgspec: the chat path reads this.
"""

from __future__ import annotations

import base64
import hashlib
import re
from hmac import compare_digest
from typing import Any

import msgspec

from dropforge.serve.routing import Route, upstream_payload

FORMAT = "dropforge/cache/1"
"""Part of every key: raise it when what is stored means something else."""
MOST_ENTRY_BYTES = 128 * 1024
"""DynamoDB takes items of up to 400 KB; nearly no answer comes near this."""

Body = dict[str, Any]

_UNCACHED = frozenset(
    """tools functions audio modalities web_search_options stream prediction logprobs
    top_logprobs""".split()
)
"""Their answers are more than a text, or do not last. A streamed one is not put together again with
its log probabilities."""
_NO_PART = frozenset({"n", "prompt_cache_key", "prompt_cache_retention", "store"})
"""Changes nothing in an answer (`n` is 1 where it comes here)."""
_HIT = re.compile(r"hit-([A-Za-z0-9_-]{32})-")


class Tenant(msgspec.Struct, frozen=True):
    """Whose answers these are: no other tenant's request finds them.

    Attributes:
        user: the end user that the request names, by each of the fields that can.
    """

    project: str
    token_id: str
    user: tuple[str | None, ...] = ()


class CacheKey(msgspec.Struct, frozen=True):
    """The key of an entry: `secret` is made of the request, and is not stored.

    Attributes:
        name: 32 URL-safe characters, a hash of the secret; the table's key.
    """

    secret: bytes
    name: str

    @classmethod
    def of(cls, *parts: object) -> CacheKey:
        """The key of JSON-like values; mappings are the same in any order."""
        written = msgspec.json.encode((FORMAT, *parts), order="deterministic")
        secret = hashlib.sha256(written).digest()
        return cls(secret, base64.urlsafe_b64encode(hashlib.sha256(secret).digest()[:24]).decode())

    def code(self, *parts: bytes) -> bytes:
        """16 bytes that nobody can make who does not know what was asked (BLAKE2, RFC 7693)."""
        digest = hashlib.blake2b(key=self.secret, digest_size=16)
        for part in parts:
            digest.update(len(part).to_bytes(8))
            digest.update(part)
        return digest.digest()


class Entry(msgspec.Struct, frozen=True):
    """An answer in the table.

    Attributes:
        at, expires_at: seconds since the epoch.
        holder: a hash of the project and the token.
        blocked: it was rated badly: it is not given again, nor replaced before it expires.
    """

    holder: str
    at: int
    expires_at: int
    body: bytes = b""
    code: bytes = b""
    blocked: bool = False

    @classmethod
    def seal(cls, key: CacheKey, holder: str, completion: Body, at: int, hours: float) -> Entry:
        """The entry of an answer that was given at `at`."""
        body, expires_at = msgspec.json.encode(completion), at + int(hours * 3600)
        return cls(holder, at, expires_at, body, key.code(*_sealed(holder, at, expires_at, body)))

    def open(self, key: CacheKey, now: float, hours: float) -> Body | None:
        """The answer; None where the entry is not this key's own, too old, or blocked.

        The age is looked at here because DynamoDB deletes what has expired within days, not at
        once; and by the hours of today, which may be fewer than when it was written.
        """
        if self.blocked or not now < min(self.expires_at, self.at + hours * 3600):
            return None
        sealed = _sealed(self.holder, self.at, self.expires_at, self.body)
        if not compare_digest(key.code(*sealed), self.code):
            return None
        found: Body = msgspec.json.decode(self.body)
        return found


def _sealed(holder: str, at: int, expires_at: int, body: bytes) -> tuple[bytes, ...]:
    return holder.encode(), b"%d" % at, b"%d" % expires_at, body


def holder(project: str, token_id: str) -> str:
    """Names a token of a project in the table."""
    return hashlib.sha256(f"{project}\0{token_id}".encode()).hexdigest()[:32]


def tenant(project: str, token_id: str, fields: Body, user: str | None = None) -> Tenant:
    """Whose request this is. An answer can be about the person who asks, so who that is counts."""
    metadata = fields.get("metadata")
    inside = metadata.get("user") if isinstance(metadata, dict) else None
    told = (user, fields.get("user"), fields.get("safety_identifier"), inside)
    return Tenant(project, token_id, tuple(v if isinstance(v, str) else None for v in told))


def cacheable(payload: Body, route: Route, prompt: str | None) -> Body | None:
    """What the model would be asked, in one spelling; None where its answer is not to be kept.

    Requests with tools are not: what a tool would do now is not what it did then. `null` and an
    absent field are the same, `n: 1` and whole numbers in either notation too. Server-dependent
    defaults, as of the temperature, are left as they are. A conversation's id is no part of it.
    """
    if payload.get("n") not in (None, 1):
        return None
    asked = upstream_payload(payload, route, prompt)
    normal: Body = {}
    for name, value in asked.items():
        if value is None or name in _NO_PART:
            continue
        if name in _UNCACHED:
            if value and value != ["text"]:
                return None
            continue
        normal[name] = int(value) if type(value) is float and value.is_integer() else value
    if isinstance(metadata := normal.get("metadata"), dict):
        kept = {name: value for name, value in metadata.items() if name != "conversation_id"}
        normal["metadata"] = kept
        if not kept:
            del normal["metadata"]
    return normal


def worth_keeping(completion: Body | None) -> bool:
    """Whether an answer is one whole text: not cut short, not empty, no refusal, no tool's call.

    Nor one with anything else than texts beside it, as citations: a stream that is put together
    again does not have them as its server would have written them.
    """
    choices = (completion or {}).get("choices")
    if not isinstance(choices, list) or len(choices) != 1:
        return False
    message = choices[0].get("message")
    if choices[0].get("finish_reason") != "stop" or not isinstance(message, dict):
        return False
    text = message.get("content")
    beside = {name: value for name, value in message.items() if value and name != "content"}
    if "refusal" in beside or not all(isinstance(value, str) for value in beside.values()):
        return False
    return isinstance(text, str) and bool(text.strip()) and not choices[0].get("logprobs")


def hit_id(name: str, request_id: str) -> str:
    """The id of an answer that was given again: its own, and names the entry that it came from."""
    return f"hit-{name}-{request_id.replace('-', '')}"


def hit_name(answer: str) -> str | None:
    """The entry that an answer's id names, if it is one that was given again."""
    found = _HIT.match(answer)
    return found[1] if found else None


def given_name(project: str, token_id: str, answer: str) -> str:
    """The table's key of the note that says which entry an answer became."""
    return CacheKey.of("given", project, token_id, answer).name
