"""Text as people read it: one Unicode form, no HTML, no invisible characters, tidy white space."""

from __future__ import annotations

import html
import re
import unicodedata

_BREAK = re.compile(r"(?i)<\s*(?:br\s*/?|/p|/div|/li|/tr|/h[1-6])\s*>")
_TAG = re.compile(
    r"(?i)</?(?:a|b|blockquote|body|br|div|em|font|h[1-6]|head|hr|html|i|img|li|ol|p|pre|s|span"
    r"|strong|style|table|tbody|td|th|thead|tr|u|ul)(?:\s[^<>]*)?/?>"
)
# Controls, zero-width and direction marks, soft hyphens, lone surrogates, the byte order mark.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\xad\u200b-\u200f\u202a-\u202e\u2060-\u2064"
    "\u2066-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f\ud800-\udfff]"
)
_LINE_END = re.compile("\r\n?|[\x85\u2028\u2029]")
_SPACES = re.compile(r"[^\S\n]+")
_BLANK_LINES = re.compile(r" *\n(?:[ \n]*\n)? *")


def normalise(text: str) -> str:
    """NFC text without HTML, controls and doubled white space; paragraphs keep one line break."""
    if "<" in text:
        text = _TAG.sub("", _BREAK.sub("\n", text))
    if "&" in text:
        text = html.unescape(text)
    text = _LINE_END.sub("\n", text)
    text = unicodedata.normalize("NFC", _INVISIBLE.sub("", text))
    return _BLANK_LINES.sub("\n", _SPACES.sub(" ", text)).strip()


def same_text(text: str) -> str:
    """What two exact duplicates have in common: the text without case and white space runs."""
    return " ".join(text.casefold().split())
