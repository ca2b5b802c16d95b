"""Personal names: known ones wherever they stand, others where people name themselves or greet."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator

from dropforge.clean.redact.kinds import Kind, Span, words
from dropforge.clean.redact.vocabulary import GIVEN, NOBODY, NOT_A_NAME, WORDS_TOO

_CAPITAL = r"(?:[A-ZÀ-ÖØ-ÞĀĂĄĆČĎĐĒĖĘĚĞĢĪĮİŁĽŃŅŇŌŐŒŘŚŞŠŤŪŮŰŲŹŻŽА-ЯЁІЇЄ])"
_PART = rf"{_CAPITAL}[\w’'-]*\w(?<!['’]s)|{_CAPITAL}\.(?= )"
_FULL = re.compile(
    rf"((?:{_PART})(?:[ -](?:(?:de la|de los|van der|van den|von der|de|da|dos|do|di"
    rf"|del|van|von|der"
    rf"|bin|al|el|la|le|ten|zu|y|e) )?(?:{_PART})){{0,3}})"
)
_ANY_CASE = re.compile(r"([^\W\d_]{2,15}(?:[ -][^\W\d_]{2,20})?)")
_TITLE = re.compile(
    r"(?i)(?:(?:mr|mrs|ms|miss|mx|dr|prof|herr|herrn|frau|m|mme|mlle|monsieur|madame"
    r"|señor|señora|sr"
    r"|sra|dña|don|doña|senhora?|signora?|sig|sig\.ra|dott|dhr|mevr|mevrouw|meneer)\b\.? )+"
)
_AFTER_GREETING = re.compile(r"[ ]?(?:[,!.:;–—\n-]|$|\0)|[ ](?:and|und|et|y|e|en|from|,)\b|\)")
# What may follow a greeting's first word before the name.
_AFTER_GREET = re.compile(
    r"(?i)(?: (?:geehrte[r]?|tag|morgen|abend|morning|afternoon|evening|day|días|tardes|noches|dia"
    r"|tarde|noite|there|to you))*+,? (?=\S)"
)
# What stands between a word that introduces somebody and the name.
_AFTER_NAME = r"(?:['’]s| is| ist| est| es| é| è| was|:| ?=)"
_LINKS = {
    "name": _AFTER_NAME, "nome": _AFTER_NAME, "nombre": _AFTER_NAME, "nom": _AFTER_NAME,
    "naam": " is| :|:", "this": " is", "hier": " (?:ist|spricht|is)", "je": " suis", "ich": " bin",
    "ik": " ben", "speaking": " (?:with|to)", "spoke": " (?:with|to)", "talked": " (?:with|to)",
    "chatted": " with", "chatting": " with",
}  # fmt: skip
_LINK = {
    word: re.compile(rf"(?i)(?:{link}) (?:actually |also |now )?") for word, link in _LINKS.items()
}
# The same as words: these triggers are frequent, and seldom introduce anybody.
FOLLOWED = {
    "this": ("is",), "hier": ("ist", "spricht", "is"), "je": ("suis",), "ich": ("bin",),
    "ik": ("ben",), "speaking": ("with", "to"), "spoke": ("with", "to"), "talked": ("with", "to"),
    "chatted": ("with",), "chatting": ("with",),
}  # fmt: skip
_PLAIN_LINK = re.compile(r"(?i) (?:actually |also |now )?")
_SURE = frozenset(words("name nome nombre nom naam appelle llamo chamo chiamo heiße heisse heet"))
_NAME_FIELD = re.compile(r"(?i)(?: on (?:the )?(?:account|order|card))?\s?[:=]\s?")
_OTHER_NAME = re.compile(
    r"(?i)\b(?:product|file|company|user|item|domain|host|store|brand|model|event"
    r"|plan|shop|display|pet|"
    r"dog|cat|business|bank|game|project|screen|nick|brand|device|network|wifi|app"
    r"|street|domain|group"
    r"|list|sheet|column|folder|file|table|code)[ _-]?$"
)
_AFTER_CLOSE = re.compile(
    r"(?i)(?: (?:you|care|again|so much|very much|in advance|a lot|dank|truly"
    r"|sincerely|faithfully|wishes"
    r"|regards))*+ ?(?:[,.!–-] ?\n?|\n)(?:[-–] ?)?"
)
_AFTER_THANKS = re.compile(r"(?i)(?: (?:you|so much|again))*+,? (?=\S)")
_THANKS = frozenset(words("thank thanks danke merci gracias obrigado obrigada grazie bedankt"))
_END = re.compile(r"[.,!]?\s*+(?:\n|\0|$)|,? \(?[A-Z][\w &-]{2,40}\)?\s*+(?:\n|\0|$)")
_TITLED = re.compile(
    r"(?:Mrs?|Ms|Miss|Mx|Mme|Mlle|Herrn?|Frau|Monsieur|Madame|Señora?|Signora?"
    r"|Senhora?|Mevrouw|Dhr|Mevr|Sra?|Sig)\b\.? "
)

_FROM = re.compile(r",? (?:from|speaking|calling|here|with|at|von|aus)\b")
_FIRST_WORD = re.compile(r"[^ \n,]{1,24}")
_ANYWHERE = re.compile(r"\b")
_SMALL_TITLES = frozenset(words("mr mrs ms miss dr herr frau mme sr sra señor señora"))
_SMALL = GIVEN | _SMALL_TITLES
_MAY_LEAD = _SMALL | {"actually", "also", "now"}
_FIELDS = frozenset(("name", "nome", "nombre", "nom", "naam"))
_GREET = (
    "hi hello hey hiya dear hallo liebe lieber moin servus grüezi bonjour salut"
    " bonsoir coucou cher chère chere hola estimado estimada querido querida buenos"
    " buenas olá oi prezado prezada caro cara ciao gentile gentilissimo gentilissima"
    " buongiorno buonasera salve beste geachte hoi dag goedemorgen goedemiddag"
    " goedeavond good morning greetings namaste sehr guten bom boa"
)
_INTROS = (
    "name nome nombre nom naam appelle llamo chamo chiamo heiße heisse heet called"
    " am m ich je soy sou sono ik this hier speaking spoke talked chatted chatting"
)
_CLOSE = (
    "signed regards sincerely wishes cheers yours truly faithfully thanks thank thx best"
    " love take grüßen grüße gruß grüssen lg mfg vg danke dank cordialement vous"
    " salutations merci saludos saludo atentamente gracias atenciosamente"
    " cumprimentos abraço abraços obrigado obrigada saluti grazie groeten groet mvg"
    " bedankt"
)
_TITLES = (
    "mr mrs ms miss mx mme mlle herr herrn frau monsieur madame señor señora signor"
    " signora senhor senhora mevrouw dhr mevr sr sra sig"
)

TRIGGERS: dict[str, str] = {}
for _sort, _words in (("greet", _GREET), ("intro", _INTROS), ("close", _CLOSE), ("title", _TITLES)):
    TRIGGERS.update(dict.fromkeys(words(_words), _sort))


def spoken(text: str, trigger: str, place: int) -> list[Span]:
    """The name that the trigger word at `place` leads to, if any."""
    sort = TRIGGERS[trigger]
    end = place + len(trigger)
    if trigger == "thank" and text.startswith(" you for ", end):
        return []
    if sort == "greet":
        return _greeted(text, end)
    if sort == "intro":
        if trigger not in _LINK and _plain_word(text, end):
            return []
        return _introduced(text, trigger, place, end)
    if sort == "close":
        return _closed(text, trigger, end)
    titled = _TITLED.match(text, place)
    return list(_name(text, titled.end(), None)) if titled else []


def _plain_word(text: str, end: int) -> bool:
    """Whether a space and a word in small letters follow that leads to no name."""
    word = text[end + 1 : end + 25].partition(" ")[0]
    return (
        text.startswith(" ", end)
        and word.isascii()
        and word.islower()
        and word.isalpha()
        and word not in _MAY_LEAD
    )


def _may_begin(text: str, place: int) -> bool:
    """Whether a name may begin here, told at little cost."""
    if text[place : place + 1].isupper():
        return True
    match = _FIRST_WORD.match(text, place)
    if match is None:
        return False
    word = match[0]
    if word in _SMALL:
        return True
    if word.isascii() and word.islower() and word.isalpha():
        return False
    word = word.rstrip(".!:;-")
    return folded(word) in GIVEN or word.lower() in _SMALL_TITLES


def _name(
    text: str, place: int, after: re.Pattern[str] | None, given: bool = False
) -> Iterator[Span]:
    """The words with capitals from `place`; `given`: only where the first is a known given name."""
    title = _TITLE.match(text, place)
    match = _FULL.match(text, title.end() if title else place)
    if match is None:
        return
    parts = match[1].split(" ")
    kept: list[str] = []
    for word in parts:
        plain = word.strip(".'’").lower()
        if plain in NOT_A_NAME or (
            kept and word.isupper() and len(word) > 1 and not kept[0].isupper()
        ):
            break
        kept.append(word)
    while kept and kept[-1] in ("de", "da", "di", "van", "von", "der", "y", "e", "la", "le", "del"):
        kept.pop()
    if not kept or (given and not title and folded(kept[0]) not in GIVEN):
        return
    end = match.start(1) + len(" ".join(kept))
    if len(" ".join(kept)) < 2 or (text[end - 1] == "." and len(kept) == 1):
        return
    if after is not None and not after.match(text, end):
        return
    yield Span(match.start(1), end, Kind.NAME)


def _small_name(text: str, place: int, after: re.Pattern[str]) -> Iterator[Span]:
    """A known given name without a capital, and a family name after it where that is clear."""
    match = _ANY_CASE.match(text, place)
    if match is None:
        return
    first = re.split(r"[ -]", match[1])[0]
    if folded(first) not in GIVEN or first.lower() in WORDS_TOO:
        return
    for end in (match.end(), place + len(first)):
        parts = text[place:end].lower().split()
        if after.match(text, end) and not any(word in NOT_A_NAME for word in parts[1:]):
            yield Span(place, end, Kind.NAME)
            return


def _greeted(text: str, end: int) -> list[Span]:
    greeting = _AFTER_GREET.match(text, end)
    if greeting is None or not _may_begin(text, end := greeting.end()):
        return []
    return (
        list(_name(text, end, _AFTER_GREETING))
        or list(_name(text, end, None, given=True))
        or list(_small_name(text, end, _AFTER_GREETING))
    )


def _introduced(text: str, trigger: str, place: int, end: int) -> list[Span]:
    if trigger in _FIELDS:
        field = _NAME_FIELD.match(text, end)
        link = _LINK[trigger].match(text, end)
        if (field is None and link is None) or _OTHER_NAME.search(text, max(0, place - 20), place):
            return []
        if field is not None:
            end = field.end()
            return list(_name(text, end, None)) or list(_small_name(text, end, _END))
    elif trigger == "m":
        if text[max(0, place - 2) : place].lower() not in ("i'", "i’"):
            return []
    elif trigger == "am" and text[max(0, place - 2) : place].lower() != "i ":
        return []
    link = _LINK.get(trigger, _PLAIN_LINK).match(text, end)
    if link is None or not _may_begin(text, end := link.end()):
        return []
    sure = trigger in _SURE
    found = list(_name(text, end, None, given=not sure))
    if not found and not sure:
        after = _FROM if trigger in ("this", "hier") else _AFTER_GREETING
        found = [s for s in _name(text, end, after) if " " in text[s.start : s.end]]
    return found or list(_small_name(text, end, _ANYWHERE if sure else _AFTER_GREETING))


def _closed(text: str, trigger: str, end: int) -> list[Span]:
    closing = _AFTER_CLOSE.match(text, end)
    if closing is not None:
        end = closing.end()
        return (
            list(_name(text, end, _END))
            or list(_name(text, end, _AFTER_GREETING, given=True))
            or list(_small_name(text, end, _END))
            if _may_begin(text, end)
            else []
        )
    if trigger not in _THANKS:
        return []
    thanked = _AFTER_THANKS.match(text, end)
    if thanked is None or not _may_begin(text, end := thanked.end()):
        return []
    return list(_name(text, end, _AFTER_GREETING, given=True)) or list(
        _small_name(text, end, _AFTER_GREETING)
    )


_FOLD = {
    ord(char): plain
    for char in map(chr, range(0xC0, 0x250))
    if len(plain := unicodedata.normalize("NFD", char)[0].lower()) == 1
} | {ord(a): b for a, b in zip("øØłŁđĐßæÆœŒ", "oolldd" + "saaoo", strict=True)}


def folded(text: str) -> str:
    """Lower case without accents, one character for one, so that places stay the same."""
    lowered = text.lower() if text.isascii() else text.translate(_FOLD)
    if len(lowered) == len(text) and lowered.isascii():
        return lowered.lower()
    return "".join(low if len(low := char.lower()) == 1 else char for char in lowered)


def known_parts(names: Iterable[str]) -> list[tuple[str, bool]]:
    """Full names and their parts, folded, longest first; and whether small letters are enough."""
    parts: dict[str, bool] = {}
    for name in names:
        split = name.split()
        if not split or "@" in name:
            continue
        for part in (" ".join(split), *split):
            low = folded(part)
            if low in NOBODY or len(part) < 3 or not any(map(str.isalpha, part)):
                continue
            distinctive = len(low) > 3 and low not in WORDS_TOO and part.lower() not in WORDS_TOO
            if part[:1].isupper() or distinctive:
                for written in {low, folded(_spelt_out(part))}:
                    parts[written] = distinctive
    return sorted(parts.items(), key=lambda item: (-len(item[0]), item[0]))


def _spelt_out(part: str) -> str:
    if part.isascii():
        return part
    for umlaut, plain in (("ä", "ae"), ("ö", "oe"), ("ü", "ue"), ("ß", "ss")):
        part = part.replace(umlaut, plain).replace(umlaut.upper(), plain.capitalize())
    return part


def known(text: str, fold: str, parts: list[tuple[str, bool]]) -> Iterator[Span]:
    """Every whole word that is a known name; a possessive ending stays."""
    for part, distinctive in parts:
        place = fold.find(part)
        while place >= 0:
            end = place + len(part)
            if (
                not fold[end : end + 1].isalnum()
                and not (place and (fold[place - 1].isalnum() or fold[place - 1] == "_"))
                and (distinctive or text[place].isupper())
            ):
                yield Span(place, end, Kind.NAME)
            place = fold.find(part, end)
