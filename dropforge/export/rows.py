"""What a reader yields for each row of an export: a conversation, or why it is none."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

import msgspec

MAX_LINE = 1 << 20
"""Bytes a row may have; a longer one is rejected."""


class Reason(StrEnum):
    """Why a row was not kept."""

    BROKEN_ROW = "broken row"
    ENCODING = "not valid UTF-8"
    TOO_LONG = "too long"
    UNKNOWN_SHAPE = "unknown shape"
    LATE_TURN = "turn of a conversation already given out"
    NO_QUESTION = "no question"
    UNANSWERED = "unanswered"
    SHORT_ANSWER = "answer too short"
    NO_WORDS = "answer without words"
    AUTOMATIC = "automatic reply only"
    ELSEWHERE = "answer points elsewhere"
    GIBBERISH = "gibberish"
    MOJIBAKE = "broken characters"
    OTHER_LANGUAGE = "other language"
    DUPLICATE = "duplicate"
    NEAR_DUPLICATE = "near-duplicate"


Side = Literal["user", "assistant"]


class Turn(msgspec.Struct, frozen=True, gc=False):
    """What one side said: the customer is the user, the agent the assistant."""

    role: Side
    text: str


class Conversation(msgspec.Struct, frozen=True, gc=False):
    """A customer's conversation as it was exported; nothing normalised, nothing redacted.

    `position` counts a file's rows from 1. `names` are those of people that the export states in
    a place of their own; `topic` is the first of its tags, categories or the like.
    """

    position: int
    turns: tuple[Turn, ...]
    id: str = ""
    customer: str = ""
    names: tuple[str, ...] = ()
    language: str = ""
    topic: str = ""


class Rejected(msgspec.Struct, frozen=True, gc=False):
    """A row that was not kept: where it stands (from 1), its first byte, and why.

    `offset` counts the bytes of the uncompressed content; of a .zip, those of the member.
    """

    position: int
    reason: Reason
    detail: str
    offset: int | None = None


Row = Conversation | Rejected


class UnknownShapeError(Exception):
    """An object that is no conversation; says what was found instead, without quoting it."""
