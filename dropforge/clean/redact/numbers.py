"""Numbers that lead to a person: cards, accounts, identity numbers, phones.

A number is judged by its shape, its check digits and the words before it; "order 4111 …" and dates,
prices and tracking numbers stay.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from dropforge.clean.redact.checks import card, iban_end, verhoeff
from dropforge.clean.redact.kinds import Kind, Span
from dropforge.clean.redact.labels import GERMANIC, germanic
from dropforge.clean.redact.network import internet, network

_RUN = re.compile(r"[+(]?[0-9](?:(?:[-./]| ?[-–/()] ?|\) ?\(?| \(?)?+[0-9])*+\)?")
_NOT_DIGITS = re.compile(r"\D+")
_CODED = re.compile(
    r"\d(?:(?<=[A-Za-z]{5}\d)(?P<pan>\d{3}[A-Za-z])(?!\w)"
    r"|(?<=[A-Za-z]{2}\d)(?P<iban>\d(?=[ -]?\w{4}))"
    r"|(?<=[A-Za-z]{2}\d)(?P<nino>\d ?\d\d ?\d\d ?[A-Da-d])(?!\w)"
    r"|(?<=[A-Za-z]{2} \d)(?P<spaced>\d ?\d\d ?\d\d ?[A-Da-d])(?!\w))"
)
_NINO_SHAPE = re.compile(r"[A-Za-z]{2} ?\d\d ?\d\d ?\d\d ?[A-Da-d](?!\w)")
_NINO = re.compile(r"(?i)(?!BG|GB|KN|NK|NT|TN|ZZ)[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z]")
_DIGIT = re.compile("[0-9]")

_NO_PHONE_WORD = (
    r"order|orders|tracking|invoice|ticket|case|ref|reference|account|serial|sku|item"
    r"|part|model|isbn"
    r"|ean|upc|gtin|imei|transaction|confirmation|parcel|shipment|booking|reservation"
    r"|product|article"
    r"|customer|member|membership|policy|claim|receipt|awb|waybill|consignment|batch"
    r"|lot|barcode|version"
    r"|bestellung|bestellnummer|auftrag|rechnung|rechnungsnummer|sendung"
    r"|sendungsnummer|kundennummer"
    r"|artikelnummer|artikel|seriennummer|vorgang|commande|facture|colis|suivi|pedido"
    r"|factura|fatura"
    r"|envío|seguimiento|encomenda|ordine|fattura|spedizione|bestelling|factuur"
    r"|zending|po|utr|rrn|vin"
    r"|iccid|license|licence|code|sn|s/n|asin|id|klantnummer|ordernummer|udid|size"
    r"|dimensions|coordinates|timestamp|pnr|gst|gstin|vat|ust|siret|iban|bic|swift"
    r"|routing|sort|quote"
)
_PHONE_WORD = (
    r"phone|telephone|tel|mobile|cell|cellphone|call|calls|called|calling|whatsapp"
    r"|sms|text|fax|contact"
    r"|reach|ring|dial|telefon|telefonnummer|handy|handynummer|mobil|mobilnummer|rufnummer|teléfono"
    r"|móvil|celular|téléphone|portable|telefone|telemóvel|telefono|cellulare|telefoon"
    r"|telefoonnummer|mobiel|anrufen|llamar|llame|ligar|chiamare|bellen|appeler|numéro|landline"
    r"|hotline|callback|viber|signal|ph|mob|number"
)
_SORT = dict.fromkeys(_NO_PHONE_WORD.split("|"), "other") | dict.fromkeys(
    _PHONE_WORD.split("|"), "phone"
)
_EITHER = frozenset(("number", "numéro", "code", "contact"))
_STREET_ENDS = frozenset(end[-3:] for street in GERMANIC for end in (street, street.upper()))
STREETS = [f"{street[-3:].replace('.', ' ')} " for street in GERMANIC]
"""How what stands before a short number looks to the `Scanner`, where the number is a house's."""
_TO_WORDS = {b: chr(b) if chr(b).isalpha() else " " for b in range(128)}
_WORD = re.compile(r"[^\W\d_]+")
_SSN_WORD = re.compile(r"(?i)\b(?:ssn|social security|social)\b")
_AADHAAR_WORD = re.compile(r"(?i)\b(?:aadhaar|aadhar|adhaar|uidai|uid)\b")
_CARD_WORD = re.compile(
    r"(?i)\b(?:card|visa|mastercard|amex|credit|debit|karte|kreditkarte|carte|tarjeta"
    r"|cartão|carta|kaart)\b"
)

_CARD_SHAPE = re.compile(
    r"\d{13,19}|\d{4}([ -])\d{4}\1\d{4}\1\d{1,7}|\d{4}[ -]\d{6}[ -]\d{4,5}|\d{4} "
    r" ?\d{4}  ?\d{4}  ?\d{4}"
)
_PHONE_SHAPE = re.compile(
    r"\+\d{1,3}(?:[ ./()-]{0,3}\d){6,13}"
    r"|00[1-9]\d?(?:[ ./()-]{1,3}\d{1,8}){2,5}|00[1-9]\d{9,12}"
    r"|(?:1[ .-])?\([2-9]\d\d\) ?[2-9]\d\d[ .-]?\d{4}"
    r"|(?:1[ .-])?[2-9]\d\d([ .-])[2-9]\d\d\1\d{4}"
    r"|\(0\d{1,4}\) ?\d{2,4}(?:[ -]?\d{2,4}){1,3}"
    r"|0\d[ .-]\d\d(?:[ .-]\d\d){3}"
    r"|0\d{1,4} ?[ ./-] ?\d{3,4}(?:[ -]?\d{2,5}){0,2}|0\d{1,4} ?[ /-] ?\d{5,9}"
    r"|0\d{1,3}(?:[ -]\d{2,4}){2,4}|0[1-9]\d{8,10}"
    r"|\([1-9]\d\) ?9?\d{4}[ -]\d{4}|[1-9]\d 9\d{4}[ -]?\d{4}|(?:55|33|81) \d{4} \d{4}"
    r"|[6-9]\d{9}|[6-9]\d{4}[ -]\d{5}"
    r"|[67]\d\d \d{3} \d{3}|[679]\d\d? \d{2,3} \d\d \d\d|3\d\d[ .-]\d{3}[ .-]?\d{3,4}"
    r"|3\d\d[ -]\d{7}"
    r"|1[3-9]\d[ -]\d{4}[ -]\d{4}"
)
_LONG_ENOUGH = re.compile(r"(?:\D{0,3}\d){7}")
_ANY_PHONE = re.compile(r"\(?\d(?:[ ./()-]{0,2}\d){6,14}")
_DATE_SHAPE = re.compile(
    r"(?:19|20)\d\d[-/. ][01]?\d[-/. ][0-3]?\d(?![-./]?\d)|[0-3]?\d[-/.][0-3]?\d[-/.]"
    r"(?:19|20)?\d\d(?![-./]?\d)"
    r"|(?:19|20)\d\d ?[-–/] ?(?:19|20)\d\d(?!\d)|(?:19|20)\d{6}(?!\d)"
)
_MORE_DIGITS = re.compile(r"[ .-]?\d{3}|[.,:]\d|\d")


def numbers(text: str, stretches: list[tuple[int, int]]) -> list[Span]:
    """Every number of a kind in the text: one pass over its runs of digits.

    Args:
        text: as it is.
        stretches: where they may be; a stretch begins and ends with a digit.
    """
    spans: list[Span] = []
    for low, high in stretches:
        digit = low
        while True:
            run = _RUN.match(text, digit - 1 if digit and text[digit - 1] in "+(" else digit)
            if run is None:
                break
            _numbered(text, run, spans)
            following = _DIGIT.search(text, run.end(), high)
            if following is None:
                break
            digit = following.start()
    colons = text.count(":")
    if colons > 4 or text.count("-") > 4 or (colons > 1 and "::" in text):
        spans += network(text, colons)
    return spans


def _numbered(text: str, run: re.Match[str], spans: list[Span]) -> None:
    """Adds to `spans` what begins with the run of digits, or shortly before it."""
    start, end = run.span()
    left = text[start - 1] if start else "\n"
    size = end - start
    if left == " ":
        if text[start - 4 : start - 1] in _STREET_ENDS and (span := germanic(text, start)):
            spans.append(span)
        if size > 5 and _after_two_letters(text, start):
            spans += _coded(text, start)
    elif size > 1 and left.isalpha():
        spans += _coded(text, start)
    if size > 6:
        spans += _judged(text, run)


def _after_two_letters(text: str, digit: int) -> bool:
    return text[digit - 3 : digit - 1].isalpha() and not text[digit - 4 : digit - 3].isalnum()


def _coded(text: str, digit: int) -> Iterator[Span]:
    """Letters before the digit: IBAN, UK national insurance and Indian tax numbers."""
    match = _CODED.match(text, digit)
    if match is not None:
        kind = match.lastgroup
        start = match.start() - {"pan": 5, "spaced": 3}.get(kind or "", 2)
        if start and (text[start - 1].isalnum() or text[start - 1] in "_-/#"):
            return
        before = text[max(0, start - 40) : start].lower()
        if kind == "iban":
            end = iban_end(text, start)
            if end > 0:
                yield Span(start, end, Kind.IBAN)
                return
            again = _NINO_SHAPE.match(text, start)
            if again and _is_nino(again[0], before):
                yield Span(start, again.end(), Kind.NINO)
        elif kind == "pan":
            known = match[0].isupper() or text[start : match.end()].isupper()
            if text[start + 3].upper() in "ABCFGHLJPTK" and (
                known or re.search(r"\bpan\b", before)
            ):
                yield Span(start, match.end(), Kind.PAN)
        elif _is_nino(text[start : match.end()], before):
            yield Span(start, match.end(), Kind.NINO)


def _is_nino(found: str, before: str) -> bool:
    named = "insurance" in before or "nino" in before or re.search(r"\bni\b", before)
    return bool(_NINO.match(found)) and (found.isupper() or bool(named))


def _judged(text: str, run: re.Match[str]) -> Iterator[Span]:
    """What is in one run of digits and the signs between them."""
    value = run[0]
    place, end = run.start(), run.end()
    if value.count(".") > 2:
        yield from internet(text, place, end)
    while place < end:
        span = _at(text, place, end)
        if span is None and text[place] == "(":
            span = _at(text, place + 1, end)
        if span is not None:
            yield span
            place = span.end
            if end - place < 7:
                return
            continue
        space = text.find(" ", place, end)
        if space < 0 or end - space < 8:
            return
        place = space + 1


def _at(text: str, start: int, end: int) -> Span | None:
    """The number that begins here, if it is one to be redacted."""
    first = text[start]
    if start:
        left = text[start - 1]
        if left.isalnum() or (left in _SIGNS and not _labelled_sign(text, start, left)):
            return None
    if end < len(text) and (text[end].isalnum() or text[end] == "_"):
        return None
    if first in "0123" and _DATE_SHAPE.match(text, start):
        return None
    if first not in "+(" and not _LONG_ENOUGH.match(text, start):
        return None
    before = text[max(0, start - 48) : start]
    label = _label(before)
    shape = _CARD_SHAPE.match(text, start)
    if shape and (shape[0].isdigit() or not _MORE_DIGITS.match(text, shape.end())):
        digits = _NOT_DIGITS.sub("", shape[0])
        if card(digits) and (
            len(digits) != len(shape[0]) or label != "other" or _CARD_WORD.search(before)
        ):
            return Span(start, shape.end(), Kind.CARD)
    return _national(text, start, before, label) or _phone(text, start, end, label)


def _labelled_sign(text: str, start: int, left: str) -> bool:
    """A sign that may stand before a phone number: "tel.030 …", "Tel:-98…", "phone=98…"."""
    return (
        left in ".-=/"
        and _label(text[max(0, start - 12) : start]) == "phone"
        and (start < 2 or not text[start - 2].isdigit())
    )


def _label(before: str) -> str:
    """Which of the two sorts of words stands nearest in the line: "phone", "other", or none."""
    line = before[before.rfind("\n") + 1 :].lower()
    words = line.translate(_TO_WORDS).split() if line.isascii() else _WORD.findall(line)
    found = ""
    for word in reversed(words):
        sort = _SORT.get(word)
        if sort is not None:
            if word not in _EITHER:
                return sort if not found or sort == "other" else found
            found = sort
    return found


_SSN = re.compile(r"(?!000|666|9)\d{3}([- ]?)(?!00)\d\d\1(?!0000)\d{4}(?![\w-])")
_SIGNS = "_-/.#$€£₹%@&"
_AADHAAR = re.compile(r"[2-9]\d{3}([ -]?)\d{4}\1\d{4}(?![\w-])(?! \d)")


def _national(text: str, start: int, before: str, label: str) -> Span | None:
    ssn = _SSN.match(text, start)
    if ssn and ((ssn[1] == "-" and label != "other") or _SSN_WORD.search(before)):
        return Span(start, ssn.end(), Kind.SSN)
    uid = _AADHAAR.match(text, start)
    if uid is None or not verhoeff(_NOT_DIGITS.sub("", uid[0])):
        return None
    if (uid[1] == " " and label != "other") or _AADHAAR_WORD.search(before):
        return Span(start, uid.end(), Kind.AADHAAR)
    return None


def _phone(text: str, start: int, end: int, label: str) -> Span | None:
    if label == "other" and text[start] not in "+(":
        return None
    shape = None
    if label == "phone":
        shape = _ANY_PHONE.match(text, start) if text[start] != "+" else None
        if shape and (shape.end() != end):
            shape = None
    shape = shape or _PHONE_SHAPE.match(text, start)
    if shape is None:
        return None
    found = shape[0]
    if found[0] == "+":
        found = text[start:end]
    while (count := len(_NOT_DIGITS.sub("", found))) > 15 and " " in found:
        found = found.rpartition(" ")[0]
    found = found.rstrip(" ./-(")
    if found.count("(") < found.count(")"):
        found = found.rstrip(")")
    stop = start + len(found)
    if not 7 <= count <= 15 or (found[0] != "+" and _MORE_DIGITS.match(text, stop)):
        return None
    if text[stop : stop + 1].isalnum() or (
        text[stop : stop + 1] in "-_" and text[stop + 1 : stop + 2].isalnum()
    ):
        return None
    return Span(start, stop, Kind.PHONE)
