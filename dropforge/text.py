"""Text as people read it: one Unicode form, no HTML, no invisible characters, tidy white space."""

from __future__ import annotations

import html
import re
import unicodedata

_ATTRIBUTE = r"""(?:\s++[\w:.-]++(?:\s*+=\s*+(?:"[^"<]*+"|'[^'<]*+'|[^\s<>"']++))?+)"""
_ATTRIBUTES = rf"{_ATTRIBUTE}*+\s*+/?"
# A name from HTML, then nothing or attributes: "<3", "a < b" and List<String> are no tags.
_TAG = re.compile(
    rf"(?i)<(/?)(a|abbr|address|article|b|big|blockquote|body|br|button|caption|center|code|col"
    rf"|colgroup|dd|del|div|dl|dt|em|font|footer|h[1-6]|head|header|hr|html|i|img|ins|label|li|link"
    rf"|main|meta|nav|o:p|ol|p|pre|s|section|small|span|strike|strong|sub|sup|table|tbody|td|tfoot"
    rf"|th|thead|title|tr|tt|u|ul|wbr)(?:(?=\s+[\w:.-]+\s*=){_ATTRIBUTES}|\s*+/?)>"
)
_CELLS = re.compile(rf"(?i)\s{{0,3}}</t[dh]\s*+>\s{{0,3}}<t[dh]{_ATTRIBUTES}>\s{{0,3}}")
_BREAK = re.compile(
    r"address|article|blockquote|br|caption|d[dlt]|div|footer|h[1-6r]|header|main|nav|[ou]l|p|pre"
    r"|section|table|tr"
)
_HIDDEN = re.compile(rf"(?i)<(?:!--|(script|style){_ATTRIBUTES}>)")
_ENDS = {
    name: re.compile(end)
    for name, end in {
        "": "--!?>",
        "script": r"(?i)</script\s*+>",
        "style": r"(?i)</style\s*+>",
    }.items()
}
_NESTED = re.compile(r"(?i)&(?:(?:amp|#0*+38|#x0*+26);)++")
_DOCTYPE = re.compile(r"(?i)<!doctype [^<>]*+>|<\?xml [^<>]*+>")

_SCRIPTS = "\u0600-\u08ff\u0900-\u0dff\u1000-\u109f\u1780-\u18af\ufb50-\ufdff\ufe70-\ufefc"
_EMOJI = "\u2190-\u21ff\u2300-\u27bf\u2b00-\u2bff\U0001f000-\U0001faff"
# A joiner between two letters of a script that needs it, or inside an emoji, is not invisible; nor
# are the tags that make the flags of England, Scotland and Wales.
_INVISIBLE = re.compile(
    rf"(?<=[{_SCRIPTS}])[\u200c\u200d](?=[{_SCRIPTS}])"
    rf"|(?<=[{_EMOJI}\ufe0f])\u200d(?=[{_EMOJI}])"
    "|(?<=\U0001f3f4)[\U000e0030-\U000e007a]+\U000e007f"
    "|([\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-"
    "\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufeff\uffa0\ufff9-\ufffb"
    "\U000e0000-\U000e007f\ud800-\udfff])"
)
_LINE_END = re.compile("\r\n?|[\x85\u2028\u2029]")
_SPACES = re.compile(r"(?: [^\S\n]|[^\S\n ])[^\S\n]*+")  # all but a single space
_BLANK_LINES = re.compile(r" *\n(?:[ \n]*\n)? *")

# UTF-8 that was read as Windows-1252: what cp1252 shows for the bytes 80..BF, after a lead byte.
_TRAIL = "".join(
    bytes([b]).decode("cp1252", "ignore") or chr(b) for b in range(0x80, 0xC0)
) + "".join(map(chr, range(0x80, 0xA0)))
_C = re.escape(_TRAIL)
_GARBLED = (
    f"[ÂÃÄÅ][{_C}]|â[€‚„\x80\x82\x84][{_C}]|âœ[{_C}]|[äåæçèé][{_C}]{{2}}(?=[äåæçèé][{_C}]{{2}})"
    f"|ðŸ[{_C}]{{2}}|ï¸[\x8f\u008f]|ï»¿|[ÐÑÎÏØÙ][{_C}](?=[ÐÑÎÏØÙ][{_C}])"
    f"|(?<=[ÐÑÎÏØÙ][{_C}])[ÐÑÎÏØÙ][{_C}]"
)
_MOJIBAKE = re.compile(f"(?:{_GARBLED})+")
# Whatever may have to be changed in printable text; finds a little too much, and fast.
_UNSEEN = "\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0"
_ODD = re.compile(f"[{_UNSEEN}ÂÃÄÅâäåæçèéðïÐÑÎÏØÙ](?:[{_C}\x9f]|(?<=[{_UNSEEN}]))")
_FINE = bytes({*range(0x20, 0x7F), 0x0A} - {*b"<&"})
_TO_BYTE = {char: bytes([b]) for b in range(256) if (char := bytes([b]).decode("cp1252", "ignore"))}
_ROUNDS = 4


def normalise(text: str) -> str:
    """NFC text without HTML, controls and doubled white space; paragraphs keep one line break.

    Normalising again changes nothing. Text that needs nothing costs under 1 µs per 300 characters.
    """
    if _is_plain(text):
        return text
    for _ in range(_ROUNDS):
        before, text = text, _once(text)
        if text == before or _is_plain(text):
            return text
    return _once(text.replace("<", " ").replace("&", " "))  # nested to deceive: no HTML is left


def same_text(text: str) -> str:
    """What two exact duplicates have in common: the text without case and white space runs."""
    if text.isascii():
        line = text.lower().replace("\n", " ")
        if line.isprintable() and "  " not in line and line[:1] != " " and line[-1:] != " ":
            return line  # at an eighth of the time
    return " ".join(text.casefold().split())


def repair_mojibake(text: str) -> str:
    """UTF-8 once read as Windows-1252 ("cafÃ©") as it was meant; all other text as it is.

    Only runs of characters that are well-formed UTF-8 when written back as bytes are changed, so
    a repaired text turns into what came in by the same mistake.
    """
    if text.isascii():
        return text
    return _MOJIBAKE.sub(_meant, text)


def _meant(match: re.Match[str]) -> str:
    try:
        return b"".join(_TO_BYTE.get(c) or bytes([ord(c)]) for c in match[0]).decode()
    except ValueError:  # not UTF-8 after all
        return match[0]


def _is_plain(text: str) -> bool:
    if "  " in text:
        return False
    if text.isascii():
        if text.encode().translate(None, _FINE):
            return False
    elif "<" in text or "&" in text or _ODD.search(text) or not _is_visible(text):
        return False
    if "\n" in text and ("\n\n" in text or "\n " in text or " \n" in text):
        return False
    return text[:1] not in (" ", "\n") and text[-1:] not in (" ", "\n")


def _is_visible(text: str) -> bool:
    return text.replace("\n", "").isprintable() and unicodedata.is_normalized("NFC", text)


def _once(text: str) -> str:
    text = _tidy(repair_mojibake(text))
    if "<" in text:
        text = _TAG.sub(_shown, _CELLS.sub(" | ", _DOCTYPE.sub("", _without_hidden(text))))
    if "&" in text:
        text = html.unescape(_NESTED.sub("&", text))
    return _tidy(text)


def _tidy(text: str) -> str:
    if not (text.isascii() and text.replace("\n", "").isprintable()):
        text = _LINE_END.sub("\n", text)
        text = unicodedata.normalize("NFC", _INVISIBLE.sub(lambda m: "" if m[1] else m[0], text))
        text = _SPACES.sub(" ", text)
    elif "  " in text:
        text = _SPACES.sub(" ", text)
    if "\n\n" in text or " \n" in text or "\n " in text:
        text = _BLANK_LINES.sub("\n", text)
    return text.strip()


def _shown(match: re.Match[str]) -> str:
    """What a tag leaves behind."""
    name = match[2].lower()
    if name == "li":
        return "" if match[1] else "\n- "
    return "\n" if _BREAK.fullmatch(name) else ""


def _without_hidden(text: str) -> str:
    """Without comments, scripts and styles; one that never ends is left as it is."""
    kept, place, unending = [], 0, set()
    for match in _HIDDEN.finditer(text):
        name = (match[1] or "").lower()
        if match.start() < place or name in unending:
            continue
        end = _ENDS[name].search(text, match.end())
        if end is None:
            unending.add(name)
        else:
            kept.append(text[place : match.start()])
            place = end.end()
    return "".join([*kept, text[place:]]) if kept else text
