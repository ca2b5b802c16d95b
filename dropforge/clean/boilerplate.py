"""What mail programs, ticket systems and lawyers add to a message -> the message as it was meant.

Reads normalised text (`dropforge.text.normalise`), one message. Only whole lines, and for a
project's own phrases whole sentences, are removed; a courteous closing stays, the name under it
goes. A message that is nothing but boilerplate is left as it is: judging it is not this step's job.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

QUOTED = "quoted reply"
SIGNATURE = "signature"
DISCLAIMER = "disclaimer"
MACRO = "macro"
PHRASE = "project phrase"

_ROUNDS = 4

# A text of several lines that has none of these words, and no line that begins like a quotation
# or a rule, has nothing to remove.
_MARKED = (
    "wrote schrieb écrit escribió escreveu scritto schreef original originale originele nachricht"
    " origine mensaje mensagem messaggio bericht message forwarded appointment subject betreff"
    " objet asunto assunto oggetto onderwerp iphone ipad android outlook samsung galaxy mobile"
    " phone yahoo gmail proton huawei pixel smartphone handy tablet blackberry mail móvil celular"
    " téléphone xiaomi oneplus windows gesendet envoyé enviado inviato verzonden confidential"
    " confidentiality vertrauliche vertraulich confidentiel confidencial riservato riservate"
    " vertrouwelijk vertrouwelijke recipient addressee disclaimer attachments unsubscribe notice"
    " environment line rate how automated automatic automatically auto automatische automatisch"
    " reply receiving received satisfied unsatisfied request ticket case comments service"
    " regards sincerely faithfully respectfully best wishes yours grüßen grüße gruß grüssen lg mfg"
    " vg cordialement vous salutations saludo saludos atentamente atenciosamente cumprimentos"
    " abraço abraços att saluti saluto groet groeten mvg thanks thx ty thank cheers danke dank"
    " merci gracias obrigado obrigada grazie bedankt"
)
_WORDS = frozenset(word.encode() for word in _MARKED.split())
_TO_WORDS = bytes(
    ord(chr(b).lower()) if chr(b).isascii() and chr(b).isalnum() else b if b > 127 else 32
    for b in range(256)
)

_ATTRIBUTION = re.compile(
    r"(?i)(?:on\b.{4,160}\bwrote ?:|am\b.{4,160}\bschrieb\b.{0,100}:|.{3,80}\bschrieb am\b.{4,80}:"
    r"|le\b.{4,160}\ba écrit ?:|el\b.{4,160}\bescribió ?:|em\b.{4,160}\bescreveu ?:"
    r"|il\b.{4,160}\bha scritto ?:|op\b.{4,160}\bschreef\b.{0,100}:"
    r"|\d{4}[-/]\d\d?[-/]\d\d?\b.{2,120}(?:<\S+@\S+>|wrote|schrieb) ?:)"
)
_DATED = re.compile(r"\d{1,4}[.:/-]\d|\b(?:19|20)\d\d\b|@")
_ORIGINAL = re.compile(
    r"(?i)[-_ ]{2,}(?:original message|original appointment|forwarded message|reply message"
    r"|begin forwarded message|ursprüngliche nachricht|original-nachricht|weitergeleitete nachricht"
    r"|message d['’]origine|message transféré|mensaje original|mensaje reenviado|mensagem original"
    r"|mensagem encaminhada|messaggio originale|messaggio inoltrato|oorspronkelijk bericht"
    r"|doorgestuurd bericht)[-_ ]{2,}"
)
_HEADER = re.compile(
    r"(?i)\*?(?:(from|von|de|da|van)|sent|date|to|cc|bcc|reply-to|subject|gesendet|datum|an|betreff"
    r"|kopie|envoyé|à|objet|enviado(?: el| em)?|fecha|para|asunto|data|assunto|inviato|a|oggetto"
    r"|verzonden|aan|onderwerp) ?:\*? ?(.+)"
)
_QUOTE = re.compile(r">(?:[> ]|$)|>+ ?[A-Za-zÀ-ÿ]")

_MOBILE = re.compile(
    r"(?i)(?:(?:sent|posted) (?:from|via|using|with) (?:my |the )?(?:mobile|phone|i ?phone|i ?pad"
    r"|android|samsung|galaxy|huawei|pixel|blackberry|yahoo|outlook|mail|gmail|proton|tablet"
    r"|smartphone|windows|aol|xiaomi|oneplus|verizon|t-mobile|at&t)\b.{0,60}"
    r"|get outlook for (?:ios|android|mac)\b.{0,60}"
    r"|(?:von meinem|gesendet von|gesendet mit|diese nachricht wurde von meinem)\b.{2,60}"
    r"(?:gesendet|iphone|ipad|android|samsung|galaxy|outlook|mail|handy|smartphone)\b.{0,40}"
    r"|envoyé (?:de|depuis|à partir de)\b.{2,60}|enviado (?:desde|do|de|a partir do) "
    r"(?:mi|meu|el|o)?"
    r"\b.{2,60}|inviato (?:da|dal) .{2,60}|verzonden (?:vanaf|met|via) .{2,60}"
    r"|obtenir outlook pour .{2,20}|outlook für (?:ios|android).{0,40})"
)
_DASHES = re.compile(r"(?:--|—|–|_{2,}|-{3,}) ?")
_STRONG = (
    r"(?:(?:with )?(?:best|kind|kindest|warm|warmest) (?:regards|wishes)|(?:best "
    r"|kind |warm )?regards"
    r"|sincerely(?: yours)?|yours (?:sincerely|faithfully|truly)|faithfully"
    r"|respectfully|all the best"
    r"|(?:mit )?(?:freundlichen?|besten?|vielen|lieben?|herzlichen?|schönen?) gr(?:ü(?:ß|ss)en?|uß)"
    r"|viele grüße|lg|mfg|vg|(?:bien |très )?cordialement|bien à vous|(?:sincères )?salutations"
    r"|(?:un )?(?:cordial|atento) saludo|(?:saludos|un saludo)(?: cordiales)?|atentamente"
    r"|atenciosamente|(?:com os melhores )?cumprimentos|abraços?|att|cordiali saluti"
    r"|distinti saluti|(?:un )?saluti?|(?:met )?vriendelijke groeten?|(?:hartelijke )?groeten|mvg)"
)
_WEAK = (
    r"(?:(?:many |much )?thanks(?: again| a lot| so much| in advance| and (?:best |kind )?regards)?"
    r"|thank you(?: so much| very much| again| in advance)?|thx|ty|cheers|best|danke(?: schön)?"
    r"|vielen dank|merci(?: beaucoup| d['’]avance)?|(?:muchas )?gracias|(?:muito"
    r" )?obrigad[oa]|grazie"
    r"(?: mille)?|bedankt|dank je(?: wel)?)"
)
_CLOSING = re.compile(rf"(?i)(?:{_STRONG}|{_WEAK}) ?[,.!–-]?")
_PERSON = (
    r"[^\W\d_a-z][\w'’.-]{0,20}(?: (?:(?:de|da|di|van|von|der|del|la|le|&|the|and)"
    r" ){0,2}[^\W\d_a-z][\w'’.-]{0,20}){0,3}"
)
_NAME_LINE = re.compile(
    rf"{_PERSON}(?:,? \(?[A-Z][\w ./&-]{{1,40}}\)?)?,?|[a-z]{{3,12}}(?: [a-z]{{3,14}})?"
)
_SAME_LINE = re.compile(rf"(?:(?<=[.!?] )|^)((?i:{_STRONG}),) {_PERSON}[.,]?$")
_TAIL = 100
_TAIL_WORDS = (
    "regards", "sincerely", "wishes", "gr", "cordi", "salu", "atent", "aten", "abra", "mfg", "lg",
    "vg", "att", "cumpr", "faith", "yours", "vous", "mvg", "best",
)  # fmt: skip
_SIGNED = re.compile(
    r"(?i).*(?:@|www\.|https?:|\+\d|\(?\d{3}|tel|phone|mobile|fax|team|support"
    r"|service|manager|agent"
    r"|department|specialist|representative|engineer|director|gmbh|ltd|inc\b|llc|kundendienst"
    r"|atenci[oó]n|assist|consult).*"
)
_SENTENCE = re.compile(r".*[?!]$|.{70}")

_LEGAL_START = re.compile(
    r"(?i)(?:confidentiality(?: notice| note)?\b|(?:legal )?disclaimer ?[:.-]|important notice ?:"
    r"|privileged and confidential|th(?:is|e information (?:contained )?in this|e contents of this)"
    r" (?:e-?mail|message|communication|transmission)\b.{0,120}(?:confidential|intended|privileged)"
    r"|(?:this )?(?:e-?mail|message)s? and any (?:attachments?|files)\b"
    r"|if you are not the (?:intended|named) (?:recipient|addressee)"
    r"|if you (?:have )?received this (?:e-?mail|message)\b.{0,40}(?:error|mistake)"
    r"|please consider the environment before printing"
    r"|diese (?:e-?mail|nachricht)\b.{0,80}vertraulich|ce (?:message|courriel|mail"
    r"|e-mail)\b.{0,120}"
    r"confidentiel|este (?:mensaje|correo|e-?mail)\b.{0,120}confidencial|esta mensagem\b.{0,120}"
    r"confidencia|(?:questo messaggio|il contenuto di questa)\b.{0,120}(?:riservat|confidenzial)"
    r"|dit (?:bericht|e-mailbericht)\b.{0,120}vertrouwelijk|to unsubscribe\b.{0,80}(?:click|reply)"
    r"|click here to unsubscribe|unsubscribe(?: here)?$)"
)
_LEGAL_MORE = re.compile(
    r"(?i).*(?:recipient|confidential|disclos|unauthori[sz]ed|copying|distribut|virus|liabilit"
    r"|registered (?:in|office)|notify the sender|delete (?:it|this|the)|legally privileged"
    r"|prohibited|company (?:no|number|registration)|vertraulich|empfänger|absender|confiden"
    r"|destinat|vernichten|löschen|riservat|vertrouwelijk|geadresseerde)"
)
_MACRO_LINE = re.compile(
    r"(?i)(?:#{2,}-.{0,200}-#{2,}|[-=* #]{0,9}(?:please )?(?:type|write|reply|respond)"
    r"(?: your reply)? above this line\b.{0,80}"
    r"|(?:please )?(?:rate your|rate our|rate this|how would you rate|how did we do"
    r"|tell us how we did)"
    r"\b.{0,160}|(?:good, i['’]m satisfied|bad, i['’]m unsatisfied)\b.{0,40}"
    r"|(?:this is|this was|das ist|dies ist) an? (?:automated|automatic|automatically"
    r" generated|auto"
    r"-generated|automatische|automatisch erstellte)(?: e-?mail| message| response| reply"
    r"| notification| nachricht| antwort)+\b.{0,160}"
    r"|this (?:e-?mail|message) (?:was|is) (?:sent|generated) automatically\b.{0,120}"
    r"|(?:please )?do not reply (?:directly )?to this (?:e-?mail|message|address)\b.{0,120}"
    r"|you (?:are receiving|received) this (?:e-?mail|message) because\b.{0,200}"
    r"|(?:your )?(?:request|ticket|case) \(?#?\d+\)? has been (?:received|updated"
    r"|created|assigned)\b"
    r".{0,200}|to add additional comments, reply to this e-?mail\b.{0,40}"
    r"|this e-?mail is a service from\b.{0,80})"
)
_TICKET_HEAD = re.compile(
    r"(?i)\[(?:ticket|case|request|incident)(?: id| no\.?|"
    r" number)?[ :#-]{1,4}[\w-]{1,30}\][ :-]{0,3}"
)


class Phrases:
    """A project's own boilerplate, compiled once.

    A phrase is literal; case and white space do not matter. It is removed where it is a whole line
    or a whole sentence, with or without a closing mark.
    """

    def __init__(self, phrases: Iterable[str] = ()) -> None:
        words = [phrase.rstrip(" .!?…").split() for phrase in phrases]
        ordered = sorted((w for w in words if w), key=lambda w: (-len(w), w))
        self._first = tuple({w[0].casefold() for w in ordered})
        either = "|".join(r"\s++".join(map(re.escape, w)) for w in ordered)
        self._pattern = re.compile(rf"(?im)(?:^|(?<=[.!?…:]) )(?:{either})(?:[.!?…]++(?=\s|$)|$)")

    def __bool__(self) -> bool:
        return bool(self._first)

    def may_be_in(self, text: str) -> bool:
        """Whether a phrase's first word is in the text; cheap where there are no phrases."""
        if not self._first:
            return False
        lowered = text.casefold()
        return any(first in lowered for first in self._first)

    def strip(self, text: str) -> str:
        return self._pattern.sub("", text) if self.may_be_in(text) else text


def strip(text: str, phrases: Phrases) -> tuple[str, frozenset[str]]:
    """The text without boilerplate, and the names of what was removed.

    Stripping again changes nothing. A text that would be left empty comes back as it is.
    """
    found: set[str] = set()
    whole = text
    for _ in range(_ROUNDS):
        before = text
        if _may_have_markers(text):
            text = _without_markers(text, found)
        without = phrases.strip(text)
        if without != text:
            found.add(PHRASE)
            text = "\n".join(line.strip() for line in without.split("\n") if line.strip())
        if text == before:
            return (text, frozenset(found)) if text.strip() else (whole, frozenset())
    return whole, frozenset()  # made of nothing else, line upon line


def _may_have_markers(text: str) -> bool:
    if text[:1] in ("[", "#") or "##" in text:
        return True
    if "\n" not in text:
        comma = text.rfind(", ", max(0, len(text) - _TAIL))
        if comma < 0 or "a" <= text[comma + 2 : comma + 3] <= "z":  # no name follows
            return False
        tail = text[-_TAIL:].lower()
        return any(word in tail for word in _TAIL_WORDS)
    if text[:1] == ">" or "\n>" in text or "\n-" in text or "\n_" in text or "\n—" in text:
        return True
    words = text.lower().encode(errors="replace").translate(_TO_WORDS).split()
    return not _WORDS.isdisjoint(words)


def _without_markers(text: str, found: set[str]) -> str:
    lines = text.split("\n")
    for name, step in (
        (QUOTED, _unquoted),
        (MACRO, _without_macros),
        (DISCLAIMER, _without_disclaimer),
        (SIGNATURE, _without_signature),
    ):
        kept = step(lines)
        if kept != lines:
            found.add(name)
            lines = kept
    return "\n".join(lines)


def _unquoted(lines: list[str]) -> list[str]:
    """Without what is quoted: all that follows an attribution, but not answers between quotes."""
    for place, line in enumerate(lines):
        start, end = _head(lines, place, line)
        if end == place:
            continue
        rest = lines[end:]
        if any(_QUOTE.match(x) for x in rest) or not any(lines[:start]):
            rest = [x for x in rest if not _QUOTE.match(x)]
            if _ORIGINAL.fullmatch(line) or not rest:
                rest = []
            return lines[:start] + _unquoted_blocks(rest)
        return lines[:start]
    return _unquoted_blocks(lines)


def _head(lines: list[str], place: int, line: str) -> tuple[int, int]:
    """From where to where the opening of a quotation goes; an empty range where none begins."""
    if line[-1:] == ":":
        two = f"{lines[place - 1]} {line}" if place else ""
        if len(two) < 300 and _is_attribution(two) and not _is_attribution(line):
            return place - 1, place + 1
        if _is_attribution(line):
            return place, place + 1
    if line[:2] in ("--", "__", "- ") and _ORIGINAL.fullmatch(line):
        return place, place + 1
    first = _HEADER.fullmatch(line) if ":" in line else None
    if first and first[1]:
        end = place + 1
        while end < len(lines) and _HEADER.fullmatch(lines[end]):
            end += 1
        if end - place >= 3:
            return place, end
    return place, place


def _is_attribution(line: str) -> bool:
    return bool(_ATTRIBUTION.fullmatch(line) and _DATED.search(line))


def _unquoted_blocks(lines: list[str]) -> list[str]:
    """Without two and more lines in a row that begin with ">"."""
    quoted = [bool(_QUOTE.match(line)) for line in lines]
    return [
        line
        for i, line in enumerate(lines)
        if not (quoted[i] and ((i and quoted[i - 1]) or (i + 1 < len(lines) and quoted[i + 1])))
    ]


def _without_macros(lines: list[str]) -> list[str]:
    kept = []
    for line in lines:
        if _MACRO_LINE.fullmatch(line):
            continue
        rest = _TICKET_HEAD.sub("", line, count=1) if line[:1] == "[" else line
        if rest or not line:
            kept.append(rest)
    return kept


def _without_disclaimer(lines: list[str]) -> list[str]:
    kept: list[str] = []
    inside = False
    for line in lines:
        starts = bool(_LEGAL_START.match(line.lstrip("*_ ")))
        inside = starts or (inside and bool(_LEGAL_MORE.match(line)))
        if not inside:
            kept.append(line)
    return kept


def _without_signature(lines: list[str]) -> list[str]:
    lines = [line for line in lines if not _MOBILE.fullmatch(line.strip("*_. "))]
    last = len(lines) - 1
    for place in range(max(1, last - 11), last + 1):
        if _DASHES.fullmatch(lines[place]) and sum(map(len, lines[place:])) < 600:
            return lines[:place]
    for place in range(max(0, last - 7), last + 1):
        if _CLOSING.fullmatch(lines[place]) and _signed(lines[place + 1 :]):
            return lines[: place + 1]
    if lines and (same := _SAME_LINE.search(lines[-1], max(0, len(lines[-1]) - _TAIL))):
        return [*lines[:-1], lines[-1][: same.end(1)]]
    return lines


def _signed(lines: list[str]) -> bool:
    """Whether all that follows a closing formula names its writer."""
    if not lines or not _NAME_LINE.fullmatch(lines[0]) or _SENTENCE.match(lines[0]):
        return False
    return all(
        not _SENTENCE.match(x) and (_SIGNED.fullmatch(x) or _NAME_LINE.fullmatch(x))
        for x in lines[1:]
    )
