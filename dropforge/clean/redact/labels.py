"""What a word beside it gives away: secrets, user names, dates of birth, postcodes, addresses.

Every rule hangs on a trigger word. Only where a text has that word is its pattern tried, at that
place and nowhere else, which is what makes a text without triggers cost next to nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from dropforge.clean.redact.kinds import Kind, Span, words


class Rule(NamedTuple):
    """`pattern` is matched where the trigger begins; its group, if `valid` has it, is a `kind`."""

    kind: Kind
    pattern: re.Pattern[str]
    valid: Callable[[re.Match[str]], bool]
    before: re.Pattern[str] | None = None
    """What has to stand right before the trigger, if anything."""


# "password is", "clave: ", "token =", "pin code …": what may stand between a label and its value.
_LINK = (
    r"(?:[\"'’”]?+\s*+(?:(?:number|nummer|num|code|id|no|nr|key)\b\.?\s*+)?+"
    r"(?:(?:\([^()\n]{0,30}\)|for\s[^:=\n]{1,40}(?=[:=])|to|was|is|ist|war|lautet|est|es|era|é|è"
    r"|:|="
    r"|=>|->|now|set|changed|reset|still|jetzt|neu|eu|ora|-)(?=[\s\"'“:=]|(?<=[:=>])|$)\s*+){0,4})"
)
_VALUE = r"[\"'“‘„«]?+([^\s\"'“”„«»,;<>()]{4,128}+)"
_NO_PASSWORD = re.compile(
    r"(?:\d{1,2}[.:/-]){1,2}\d{2,4}|\d{1,2}(?:am|pm|h)|https?:.*|\d+(?:st|nd|rd|th|x)"
)


_DIGIT = re.compile(r"\d")
_LETTER = re.compile(r"[A-Za-z]")


def _trimmed(value: str) -> str:
    return value.rstrip(".!?…:")


def _is_password(match: re.Match[str]) -> bool:
    """Not a word of the sentence: quoted, or with a digit or a sign that words do not have."""
    value = _trimmed(match[1])
    if len(value) < 4 or _NO_PASSWORD.fullmatch(value.lower()):
        return False
    if match.string[match.start(1) - 1] in "\"'“‘„«" and match.start(1) > match.start() + 4:
        return match.string[match.end(1) : match.end(1) + 1] in "\"'”“’»" and value.isascii()
    if any(c.isdigit() or not (c.isalnum() or c in "-'’/…") for c in value):
        return True
    return not value.islower() and not value.istitle() and not value.isupper()


def _is_key(match: re.Match[str]) -> bool:
    value = _trimmed(match[1])
    return (
        len(value) >= 12
        and _DIGIT.search(value) is not None
        and _LETTER.search(value) is not None
        and not value.lower().startswith(("http", "www."))
    )


_NO_USER = frozenset(
    words(
        "required invalid empty field missing not the unknown wrong incorrect correct"
        " already taken"
        " available unavailable blocked locked disabled deactivated same different changed"
        " case-sensitive"
        " your you my and or for with but still also being valid accepted recognized"
        " recognised email"
        " e-mail password passwort or/and nicht falsch gesperrt bereits ist und oder"
        " leider unbekannt"
        " est"
        " pas incorrecto incorrecta bloqueado correcto no está sbagliato errato bloccato incorreto"
        " errado"
        " onjuist geblokkeerd wird wurde kann it that this what which very too long short displayed"
        " shown"
        " needed optional registered linked associated visible unique"
    )
)


def _is_user(match: re.Match[str]) -> bool:
    value = _trimmed(match[1]).lstrip("@")
    if len(value) < 3 or value.lower() in _NO_USER or not re.search(r"\w{2}", value):
        return False
    if any(c.isdigit() or c in "_.@-" for c in value):
        return True
    return any(c in match[0] for c in ":=@\"'“") or _SAYS.search(match[0]) is not None


_SAYS = re.compile(r"\s(?:is|was|ist|lautet|est|es|é|è|:|=)\s")


def _always(match: re.Match[str]) -> bool:
    return True


_MONTH = r"[^\W\d_]{3,12}\.?"
_DATE = (
    r"(\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2} ?[-/.] ?\d{1,2} ?[-/.] ?(?:\d{4}|\d\d)"
    rf"|\d{{1,2}}(?:st|nd|rd|th|er|º)?\.?[ -](?:of |de |d['’])?{_MONTH},?[ -](?:de |del |of"
    rf" )?\d{{4}}"
    rf"|{_MONTH} \d{{1,2}}(?:st|nd|rd|th)?,? \d{{4}})(?!\d)"
)
_BORN = re.compile(
    rf"(?i)[\w.’']+[()\s]*+(?:(?:date|is|was|on|ist|am|le|el|em|il|op|the|est|es|é|è"
    rf"|[:=-])\s*+){{0,4}}{_DATE}"
)
_BIRTH_OF = {
    "née": None, "né": None, "nato": None, "nata": None, "geb": None, "dob": None, "born": None,
    "o": re.compile(r"(?i)\bd\.\s?$"), "birth": re.compile(r"(?i)\b(?:date|day|year) of $"),
    "naissance": None, "nacimiento": None, "nascimento": None, "nascita": None, "nacido": None,
    "nacida": None, "nascido": None, "nascida": None, "geboren": None, "geburtsdatum": None,
    "geboortedatum": None, "birthdate": None, "birthday": None, "geburtstag": None, "bday": None,
}  # fmt: skip
_DOB = re.compile(rf"(?i)o\.\s?b\.?\s*+(?:(?:is|:|=)\s*+){{0,2}}{_DATE}")
_BIRTH_DATE = re.compile(rf"(?i)birth ?date[)\s]*+(?:(?:is|was|[:=-])\s*+){{0,3}}{_DATE}")

_CODE = (
    r"([A-Z]{1,2}\d[A-Z\d]? ?\d[A-Z]{2}|\d{5}-\d{4}|\d{5}-\d{3}|\d{4} ?[A-Z]{2}|[A-Z]\d[A-Z]"
    r" ?\d[A-Z]\d"
    r"|\d{4}-\d{3}|\d{2}-\d{3}|\d{3} ?\d{3}|\d{4,6})(?![\w-])"
)
_POSTCODE = re.compile(
    rf"(?i)\w+(?: ?code| postal| número)?\s*+(?:(?:is|ist|est|es|é|è|[:=-])\s*+){{0,2}}{_CODE}"
)

_W = r"[^\W\d_]"
_WORDS_DE_LA = (
    r"(?:(?:de la|de los|de las|de|del|della|delle|dei|do|da|dos|das|du|des|la|le|les|el|los|las|di"
    r"|van|von) |d['’]|l['’])*+"
)
_PROPER = r"(?:[^\W\d_a-zß-öø-ÿ][\w'’.-]*+)"
_CITY = rf"(?:,? ?(?:\d{{4,5}}(?:-\d{{3}})?|\d{{4}} [A-Z]{{2}}),? {_PROPER}(?: {_PROPER}){{0,2}})?"
_UNIT = r"(?:,? (?:apt|apartment|suite|unit|flat|floor|#)\.? ?#?\w{1,5})?"
_US_CITY = (
    rf"(?:,? {_PROPER}(?: {_PROPER}){{0,2}},? (?:[A-Z]{{2}},? \d{{5}}(?:-\d{{4}})?"
    r"|[A-Z]{1,2}\d[A-Z\d]? \d[A-Z]{2}))?(?!\w)"
)
_ENGLISH = re.compile(
    r"(?:(?:flat|unit|apt) \w{1,4},? )?\d{1,5}[A-Za-z]?,? "
    rf"(?:(?:[NSEW]\.?|North|South|East|West|\d{{1,3}}(?:st|nd|rd|th)|{_PROPER}|de|of|the)"
    rf" ){{1,4}}$"
)
_ENGLISH_SMALL = re.compile(r"\d{1,5}[a-z]? (?:[\w'’.-]+ ){1,3}$")
_AFTER_STREET = re.compile(rf"(?i:\w+\.?{_UNIT}){_US_CITY}")
_PLACE = re.compile(
    r"(?i)(?:address|liv(?:e|ing) (?:at|on|in)|ship(?:ped)? (?:it )?to|deliver(?:ed|y)? (?:it"
    r" )?(?:to|at)|send (?:it )?to|resid\w+ at|moved to|located at)\b[^\n]{0,40}$"
)
_FRENCH = re.compile(
    rf"(?i:\w+\.? ){_WORDS_DE_LA}{_PROPER}(?:[ -]{_WORDS_DE_LA}{_PROPER}){{0,3}}{_CITY}"
)
_FRENCH_NUMBER = re.compile(r"(?i)(?<!\w)\d{1,4}(?: ?(?:bis|ter|[a-d]))?,? $")
_SOUTHERN = re.compile(
    rf"(?i:c/ ?|\w+\.? ){_WORDS_DE_LA}(?:\d{{1,2}} (?:de )?)?{_PROPER}(?:"
    rf" {_WORDS_DE_LA}{_PROPER}){{0,4}}"
    rf",? (?i:n[º°.o]{{0,2}} ?|num\.? ?)?\d{{1,5}}(?:[A-Za-z](?!\w))?(?!\w){_CITY}"
)
GERMANIC = (
    "straße", "strasse", "str.", "weg", "platz", "allee", "gasse", "ring", "damm", "ufer",
    "chaussee", "straat", "laan", "plein", "gracht", "kade", "dijk", "singel", "steig", "stieg",
)  # fmt: skip
_GERMANIC = re.compile(
    rf"{_PROPER}(?:[ -]{_PROPER}){{0,2}} \d{{1,4}}(?: ?[a-zA-Z](?!\w))?(?!\w)"
    rf"(?:,? \d{{4,5}}(?: [A-Z]{{2}}(?!\w))? {_PROPER}(?:[ -](?:am|an der|im|{_PROPER})){{0,2}})?"
)

_PASSWORD = Rule(Kind.PASSWORD, re.compile(rf"(?i)\w+{_LINK}{_VALUE}"), _is_password)
_PIN = Rule(
    Kind.PASSWORD,
    re.compile(rf"(?i)pin(?:-?code)?{_LINK}(?<=[\s:=])[\"']?(\d{{4,5}}|\d{{7,8}})(?!\w)"),
    _always,
)
_LOGIN = Rule(
    Kind.USERNAME,
    re.compile(rf"(?i)\w+(?: ?name| ?id)?{_LINK}[\"'“]?(@?[\w.@+-]{{3,40}})"),
    _is_user,
)
_ACCESS = re.compile(r"(?i)(?<![a-z])(?:aws|access|secret|secret access|secret_access)[\s_-]+$")
_KEYED = re.compile(rf"(?i)\w+{_LINK}(?<=[\s:=\"'])[\"'“]?([\w+/=.~:-]{{12,256}}+)")

RULES: dict[str, tuple[Rule, ...]] = {}


def _add(triggers: str, *rules: Rule) -> None:
    for word in words(triggers):
        RULES[word] = RULES.get(word, ()) + rules


_add(
    "password passwort passwd pwd passcode passphrase kennwort contraseña senha wachtwoord parole"
    " passworts passwords pw mdp passwrd pasword",
    _PASSWORD,
)
_add("pass", _PASSWORD._replace(pattern=re.compile(rf"(?i)pass\s*+[:=]\s*+{_VALUE}")))
_add("passe", _PASSWORD._replace(before=re.compile(r"(?i)\bmot de $")))
_add("clave", _PASSWORD._replace(pattern=re.compile(rf"(?i)clave\s*+(?:es|:|=)\s*+{_VALUE}")))
_add(
    "pin",
    _PIN,
    Rule(
        Kind.ADDRESS,
        re.compile(rf"(?i)pin[ -]?(?:code)?{_LINK}(?<=[\s:=])([1-9]\d{{2}} ?\d{{3}})(?!\w)"),
        _always,
    ),
)
_add(
    "key",
    Rule(
        Kind.AWS_KEY,
        re.compile(rf"(?i)key{_LINK}(?<=[\s:=\"'])[\"'“]?([A-Za-z0-9/+]{{40}})(?![\w/+])"),
        _is_key,
        _ACCESS,
    ),
    Rule(
        Kind.API_KEY,
        _KEYED,
        _is_key,
        re.compile(
            r"(?i)(?<![a-z])(?:api|access|secret|auth|account|client|app|encryption|license"
            r"|private|service|signing|shared|our|my|your|subscription)[\s_-]*$"
        ),
    ),
)
_add("apikey secret schlüssel", Rule(Kind.API_KEY, _KEYED, _is_key))
_add("token", Rule(Kind.TOKEN, _KEYED, _is_key))
_add("bearer", Rule(Kind.TOKEN, re.compile(r"(?i)bearer\s+([\w.~+/-]{16,512}=*)"), _always))
_add(
    "username benutzername identifiant usuario usuário gebruikersnaam skype telegram discord"
    " instagram login userid gamertag nickname utente nutzername",
    _LOGIN,
)
_add(
    "handle nick",
    _LOGIN._replace(
        pattern=re.compile(r"(?i)\w+\s*+(?:is|:|=)\s*+[\"'“]?(@[\w.-]{3,40}|\w*[\d_][\w.-]{2,40})")
    ),
)
_add("twitter", _LOGIN._replace(pattern=re.compile(r"(?i)twitter\s*+(?:is|:|=)?\s*+(@\w{3,15})")))
_add(
    "user",
    _LOGIN._replace(
        pattern=re.compile(
            r"(?i)user(?:[ _-]?name|[ _-]?id)\b(?:\s*+(?:is|was|:"
            r"|=)\s)?\s*+[:=]?\s*+[\"'“]?(@?[\w.@+-]{3,40})"
        )
    ),
)
_add("utilisateur", _LOGIN._replace(before=re.compile(r"(?i)\bnom d['’]$")))
for _word, _before in _BIRTH_OF.items():
    _add(_word, Rule(Kind.BIRTHDATE, _DOB if _word == "o" else _BORN, _always, _before))
_add("birth", Rule(Kind.BIRTHDATE, _BIRTH_DATE, _always))
_add(
    "postcode zip zipcode plz postleitzahl cep cap pincode", Rule(Kind.ADDRESS, _POSTCODE, _always)
)
_add("code", Rule(Kind.ADDRESS, _POSTCODE, _always, re.compile(r"(?i)\b(?:post|postal|zip)[ -]$")))
_add("postal", Rule(Kind.ADDRESS, _POSTCODE, _always, re.compile(r"(?i)\bc[óo]d(?:e|igo) $")))
_add(
    "rue avenue boulevard bd place chemin allée impasse quai cours route",
    Rule(Kind.ADDRESS, _FRENCH, _always, _FRENCH_NUMBER),
)
_add(
    "calle avenida avda av plaza paseo rua travessa praça via viale piazza corso vicolo largo"
    " carrer c",
    Rule(Kind.ADDRESS, _SOUTHERN, _always),
)
STREETS = frozenset(
    words(
        "street st road rd avenue ave lane ln drive dr boulevard blvd court ct place pl"
        " square way"
        " terrace close crescent parkway pkwy highway hwy gardens grove row walk hill"
    )
)
_SMALL_STREETS = frozenset(
    ("street", "road", "avenue", "lane", "drive", "boulevard", "ave", "st", "rd")
)


def labelled(text: str, trigger: str, place: int) -> list[Span]:
    """What the trigger word at `place` gives away."""
    found = []
    for rule in RULES.get(trigger, ()):
        if rule.before and not rule.before.search(text, max(0, place - 40), place):
            continue
        match = rule.pattern.match(text, place)
        if match is None or not rule.valid(match):
            continue
        if rule.kind is Kind.ADDRESS and not rule.pattern.groups:
            start = place
            if rule.before is not None:
                number = rule.before.search(text, max(0, place - 12), place)
                start = number.start() if number else place
            if text[place].islower() and rule.before is None:
                continue
            found.append(Span(start, match.end(), rule.kind))
        else:
            start, value = match.start(1), match[1]
            if rule.kind in (Kind.PASSWORD, Kind.USERNAME, Kind.API_KEY, Kind.TOKEN):
                value = _trimmed(value)
            found.append(Span(start, start + len(value), rule.kind))
    if trigger in STREETS and (street := _english(text, trigger, place)):
        found.append(street)
    return found


def _english(text: str, trigger: str, place: int) -> Span | None:
    """A house number, words with capitals and the street word; the city after it, if clear."""
    if not text[place].isupper() and trigger not in _SMALL_STREETS:
        return None
    low = max(0, place - 60)
    head = text[low:place]
    line = head.rfind("\n") + 1
    number = _ENGLISH.search(head, line) if text[place].isupper() else None
    if number is None and trigger in _SMALL_STREETS:
        small = _ENGLISH_SMALL.search(head, line)
        number = (
            small
            if _PLACE.search(text, max(0, low - 30), low + (small.start() if small else 0))
            else None
        )
    if number is None or (number.start() and text[low + number.start() - 1] not in " \n,(:\"'"):
        return None
    after = _AFTER_STREET.match(text, place)
    return Span(low + number.start(), after.end() if after else place + len(trigger), Kind.ADDRESS)


def germanic(text: str, number: int) -> Span | None:
    """The address whose house number stands at `number`, after a word such as "Lindenstraße"."""
    low = text.rfind(" ", 0, number - 1) + 1
    low = max(low, text.rfind("\n", 0, number) + 1)
    if not text[low : low + 1].isupper() or len(text) - low < 4:
        return None
    found = _GERMANIC.match(text, low)
    return Span(low, found.end(), Kind.ADDRESS) if found and found.end() > number else None
