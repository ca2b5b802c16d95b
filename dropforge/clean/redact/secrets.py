"""Secrets that show what they are, and e-mail addresses however they are written."""

from __future__ import annotations

import re
from collections.abc import Iterator

from dropforge.clean.redact.kinds import Kind, Span

_API = Kind.API_KEY
# The word a key begins with -> what the whole of it looks like there, in its own case.
PREFIXES: dict[str, tuple[Kind, re.Pattern[str]]] = {
    word: (kind, re.compile(pattern))
    for words, kind, pattern in (
        ("sk pk rk", _API, r"[spr]k[-_](?:[A-Za-z]+[-_])?[\w-]{16,256}+"),
        ("whsec", _API, r"whsec_\w{16,128}+"),
        ("ghp gho ghu ghs ghr", _API, r"gh[pousr]_[A-Za-z0-9]{30,255}+"),
        ("github", _API, r"github_pat_\w{30,255}+"),
        ("glpat glptt gldt", _API, r"gl(?:pat|ptt|dt)-[\w.-]{20,128}+"),
        ("xoxb xoxp xoxa xoxr xoxs xoxe xapp", _API, r"x(?:ox[abeprs]|app)-[\w-]{10,256}+"),
        ("hf", _API, r"hf_[A-Za-z0-9]{30,64}+"),
        ("npm", _API, r"npm_[A-Za-z0-9]{30,64}+"),
        ("pypi", _API, r"pypi-[\w-]{40,400}+"),
        ("sg", _API, r"SG\.[\w-]{16,64}\.[\w-]{16,128}+"),
        ("gocspx", _API, r"GOCSPX-[\w-]{20,64}+"),
        ("dop", _API, r"dop_v1_[a-f0-9]{64}"),
        ("shpat shpss shpca shppa", _API, r"shp(?:at|ss|ca|pa)_[a-fA-F0-9]{32}"),
        ("ya29", _API, r"(?<![\w-])ya29\.[\w-]{20,256}+"),
        ("key", _API, r"(?<![\w-])key-[0-9a-f]{32}(?!\w)"),
        ("hooks", _API, r"hooks\.slack\.com/services/[\w/]{20,100}+"),
    )
    for word in words.split()
}  # fmt: skip
KEY_STARTS = ("eyj", "aiza")
"""How words begin that belong to a key though they may be short, in lower case."""
_LONG_STARTS = ("AKIA", "ASIA", "AROA", "ABIA", "AC", "SK", "AIza", "eyJ")
_LONG = re.compile(
    r"(?<![\w-])(?:(?P<AWS_KEY>(?:AKIA|ASIA|AROA|ABIA)[0-9A-Z]{16})(?!\w)"
    r"|(?P<API_KEY>AIza[\w-]{35}|(?:AC|SK)[0-9a-f]{32}(?!\w))"
    r"|(?P<TOKEN>eyJ[\w-]{5,4096}+\.[\w-]{5,4096}+\.[\w-]*+))"
)
_AWS_SECRET = re.compile(r"(?<![\w/+=])[A-Za-z0-9/+]{40}(?![\w/+=])")
_PEM_END = re.compile(r"-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
_PEM = re.compile(r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----(?:\s*+[\w+/=:,. -]*+)?")
_PEM_BODY = re.compile(r"(?:\s*+[A-Za-z0-9+/=]{16,128}+)*+")
_CREDENTIALS = re.compile(r"://([^\s/@:\"'<>]{0,128}:[^\s/@\"'<>]{1,256})@")
_URL_SECRET = re.compile(
    r"(?i)[?&](?:access_token|token|api_?key|key|sig|signature|secret|password|pwd|auth|code"
    r"|x-amz-(?:signature|credential|security-token))=([^\s&#\"'<>]{6,2048}+)"
)

_DOMAIN = re.compile(
    r"(?:[^\W_](?:[\w-]{0,62}[^\W_])?+\.)+(?:[^\W\d_]{2,24}|xn--[\w-]{2,40})(?![\w@])"
    r"|\[?\d{1,3}(?:\.\d{1,3}){3}\]?"
)
_DOMAIN_LATE = re.compile(r"[\w-]{1,63}(?:\.[\w-]{1,63}){0,8}\.[A-Za-z]{2,24}(?![\w-])")
_DOMAIN_LOOSE = re.compile(r"[\w-]{1,63}(?:\.[\w-]{1,63}){0,8}\.[A-Za-z]{2,24}")
_SPACED_DOMAIN = re.compile(
    r"[\w-]{1,63}(?:(?: ?\. ?| ?[\[({] ?(?:dot|\.|punkt|point|punto|ponto) ?[\])}] ?|"
    r" (?:dot|punkt) )[\w-]{1,63}){0,4}"
    r"(?: ?\. ?| ?[\[({] ?(?:dot|\.|punkt|point|punto|ponto) ?[\])}] ?| (?:dot|punkt) )"
    r"(?:com|org|net|info|biz|edu|gov|mil|io|co|ai|app|dev|example|eu|[a-z]{2})(?![\w-])",
    re.IGNORECASE,
)
_AT_WORD = re.compile(
    r"(?i) ?[\[({<] ?(?:at|@|ät|arroba|chez) ?[\])}>] ?| at (?=[\w-]+(?:\.[\w-]+)* ?"
    r"(?:dot|\[dot|\(dot))"
)
_LOCAL = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._%+-'&!#$*/=?^`{|}~"
_LOCAL_SPELT = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._+-"
_LONGEST_LOCAL = 64  # RFC 5321, 4.5.3.1.1


def secrets(text: str, long: list[int]) -> list[Span]:
    """What is secret by its form. `long`: where it may begin."""
    spans: list[Span] = []
    for place in long:
        if (not spans or place >= spans[-1].end) and text.startswith(_LONG_STARTS, place):
            match = _LONG.match(text, place)
            if match:
                spans.append(Span(place, match.end(), Kind[match.lastgroup or ""]))
    # One sign is looked for many times faster than two.
    if "/" in text and ("@" in text or "=" in text) and "://" in text:
        spans += [Span(*m.span(1), Kind.CREDENTIALS) for m in _CREDENTIALS.finditer(text)]
        spans += [Span(*m.span(1), Kind.TOKEN) for m in _URL_SECRET.finditer(text)]
    if text.count("-") > 9 and "-----BEGIN" in text:
        spans += _private_keys(text)
    return spans


def _private_keys(text: str) -> list[Span]:
    spans = []
    place = 0
    while pem := _PEM.search(text, place):
        end = _PEM_END.search(text, pem.end())
        body = end or _PEM_BODY.match(text, pem.end())
        place = body.end() if body else pem.end()
        spans.append(Span(pem.start(), place, Kind.PRIVATE_KEY))
    return spans


def prefixed(text: str, trigger: str, place: int) -> list[Span]:
    """The key whose prefix is the trigger word at `place`."""
    kind, pattern = PREFIXES[trigger]
    match = pattern.match(text, place)
    return [Span(place, match.end(), kind)] if match else []


def aws_secrets(text: str) -> Iterator[Span]:
    """Secret access keys, told by their 40 signs of all sorts: for texts that speak of AWS."""
    for match in _AWS_SECRET.finditer(text):
        found = match[0]
        if (
            any(map(str.isdigit, found))
            and any(map(str.islower, found))
            and any(map(str.isupper, found))
        ):
            yield Span(match.start(), match.end(), Kind.AWS_KEY)


def emails(text: str) -> Iterator[Span]:
    """Every address around an @."""
    at = text.find("@")
    while at >= 0:
        start, after = at, at + 1
        if text[at - 1 : at] == " " and text[after : after + 1] == " ":
            start, after = at - 1, at + 2  # "ann @ mail.example"
        elif text[after : after + 1] == " ":
            after += 1
        elif text[at - 1 : at] == " ":
            start -= 1
        end = start
        start = _local(text, end, _LOCAL)
        while start < end and not text[start].isalnum() and text[start] not in "_+":
            start += 1
        domain = (_DOMAIN if after == at + 1 and end == at else _DOMAIN_LATE).match(text, after)
        if domain is None:
            domain = _SPACED_DOMAIN.match(text, after)
        if domain is not None and start < end:
            yield Span(start, domain.end(), Kind.EMAIL)
        elif (
            domain is None
            and start < end
            and end == at
            and (host := _DOMAIN_LOOSE.match(text, after))
        ):
            yield Span(start, host.end(), Kind.EMAIL)
        at = text.find("@", at + 1)


def _local(text: str, end: int, signs: str) -> int:
    """Where the signs and letters right before `end` begin."""
    low = max(0, end - _LONGEST_LOCAL)
    start = low + len(text[low:end].rstrip(signs))
    while start > low and text[start - 1].isalnum():  # a letter that is not ASCII
        start = low + len(text[low : start - 1].rstrip(signs))
    return start


def hidden_emails(text: str) -> Iterator[Span]:
    """Addresses with the @ spelt out: "ann (at) mail dot example"."""
    for match in _AT_WORD.finditer(text):
        start = _local(text, match.start(), _LOCAL_SPELT)
        domain = _SPACED_DOMAIN.match(text, match.end()) or _DOMAIN.match(text, match.end())
        if start < match.start() and domain:
            yield Span(start, domain.end(), Kind.EMAIL)
