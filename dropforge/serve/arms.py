"""A canary's arms: whose questions each model gets, and what is counted of its answers.

Spells the registry's items `arm#…` (traffic of a canary's step) and `feedback#…` (ratings), and the
ids of answers. Writes nothing. Pure, and imports nothing but msgspec: the chat path reads this.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any, Literal, cast, get_args

import msgspec

from dropforge.providers import Backend

Arm = Literal["champion", "challenger", "base", "pinned", "ensemble", "fallback"]
Sticky = Literal["user", "conversation"]

_RATEABLE = re.compile(r"[A-Za-z0-9._:-]+")
_MOST_ID_CHARACTERS = 128
_ARMS = frozenset(get_args(Arm))


class Challenger(msgspec.Struct, frozen=True):
    """The champion item's `canary`: who is being tried on live traffic, and on how much of it.

    Attributes:
        id: the pointer's revision when this canary began.
        share: of those who ask, 0 to 1.
        shadow: it answers nobody, and is asked beside the champion.
        step: the plan's step, from 0; -1 while shadowing.
        slow_seconds: an answer that took longer is counted as slow.
        sticky: what keeps its arm for the whole canary.
    """

    id: int
    version: str
    backend: Backend
    model_id: str
    share: float = 0.0
    shadow: bool = False
    step: int = 0
    slow_seconds: float = 10.0
    sticky: Sticky = "user"

    def takes(self, subject: str) -> bool:
        """Whether the challenger answers this subject.

        The same subject falls on the same point between 0 and 1 in every step of one canary, so who
        is in at 10 % stays in at 50 %; in another canary it falls on another point.
        """
        point = hashlib.sha256(f"{self.id}:{subject}".encode()).digest()[:8]
        return not self.shadow and int.from_bytes(point) < self.share * 2**64

    def counter(self, arm: Arm) -> str:
        """The sort key of the item that counts an arm's traffic in this step."""
        step = "shadow" if self.shadow else f"{self.step:02d}"
        return f"arm#{self.id:06d}#{step}#{arm}"


class Asker(msgspec.Struct, frozen=True):
    """Who asks, as far as a canary has to tell people and conversations apart.

    Attributes:
        salt: the project and the token: the same user of another shop is another subject.
        request_id: the subject of last resort, which keeps no arm.
        fields: the chat request as it was sent.
        user: where the request says it outside its fields.
    """

    salt: str
    request_id: str
    fields: dict[str, Any]
    user: str | None = None

    def subject(self, sticky: Sticky) -> str:
        """The text that decides the arm: of the user if asked and told, else of the conversation.

        A conversation is known by `metadata.conversation_id`, or by how it began. A
        `prompt_cache_key` alone would not do: many callers send the same with every request.
        """
        metadata = self.fields.get("metadata")
        if not isinstance(metadata, dict):
            metadata = {}
        if sticky == "user":
            told = (self.user, self.fields.get("user"), self.fields.get("safety_identifier"))
            for user in (*told, metadata.get("user")):
                if user and isinstance(user, str):
                    return f"{self.salt}\0user\0{user}"
        conversation = metadata.get("conversation_id")
        if conversation and isinstance(conversation, str):
            return f"{self.salt}\0conversation\0{conversation}"
        first = next((m for m in self.fields["messages"] if m["role"] == "user"), None)
        if first is None:
            return f"{self.salt}\0request\0{self.request_id}"
        began = msgspec.json.encode([self.fields.get("prompt_cache_key"), first.get("content")])
        return f"{self.salt}\0began\0{began.decode()}"


class Tally(msgspec.Struct, frozen=True):
    """What one request adds to the numbers of its arm.

    `milliseconds`, `slow` and the tokens are of answers; of a failure only `requests` and `errors`.
    """

    requests: int = 1
    errors: int = 0
    slow: int = 0
    milliseconds: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0

    @classmethod
    def of(cls, completion: dict[str, Any], seconds: float, slow_seconds: float) -> Tally:
        """An answer that took so long; tokens that its server does not tell count as none."""
        usage = completion.get("usage")
        told = usage if isinstance(usage, dict) else {}
        counts = (told.get(name) for name in ("prompt_tokens", "completion_tokens"))
        prompt, written = (max(0, n) if isinstance(n, int) else 0 for n in counts)
        slow = int(seconds > slow_seconds)
        return cls(1, 0, slow, round(seconds * 1000), prompt, written)


FAILED = Tally(errors=1)
"""The arm's model gave no answer: 5xx, too much to do, or not in time."""


def answer_id(upstream_id: object, request_id: str, version: str, arm: Arm) -> str:
    """The id of an answer, which names who gave it: `<id>.<version>.<arm>`.

    The upstream's id where /v1/feedback could take it, else one made of the request's.
    """
    suffix = f".{version}.{arm}"
    if isinstance(upstream_id, str) and _RATEABLE.fullmatch(upstream_id):
        named = upstream_id + suffix
        if len(named) <= _MOST_ID_CHARACTERS:
            return named
    return f"chatcmpl-{request_id}{suffix}"


def rated(answer: str) -> tuple[str, Arm | None]:
    """(version, arm) that an answer's id names; ("-", None) where it names none."""
    parts = answer.rsplit(".", 2)
    if len(parts) == 3 and parts[1] and parts[2] in _ARMS:
        return parts[1], cast("Arm", parts[2])
    return "-", None


def feedback_key(answer: str) -> str:
    """The sort key of an answer's rating."""
    return f"feedback#{rated(answer)[0]}#{answer}"
