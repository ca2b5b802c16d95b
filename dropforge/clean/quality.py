"""Conversations that teach a model nothing, or something wrong, and why.

Reads the turns after normalising, stripping and redacting; what is found here goes to `rejected/`
with a reason that a person understands.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from zlib import compress

import numpy as np
from numpy.typing import NDArray

from dropforge.clean.language import SIGN, STOP, WORD, Words, lookup, words
from dropforge.export import Reason, Turn

_SAMPLE = 1000
_AT_ONCE = 500  # texts looked at together: their arrays stay in cache
_SHORT = 24
"""Characters of a text that is too short to be called gibberish."""

_TELLING = 90
_ASIDE = 45
_EXPLAINED = 2
"""Short sentences with which an automatic reply may explain itself."""

_LONG = 400
"""Characters of an answer that says more than where else to look."""

_PLACEHOLDER = re.compile(r"\[[A-Z_]{2,20}_\d{1,9}\]")
_LINK = re.compile(r"(?:https?://|www\.)\S*+")
_AUTOMATIC = re.compile(
    r"(?:out of (?:the )?office|on (?:annual|parental|maternity|sick) leave|auto(?:matic|mated|-)"
    r" ?(?:reply|response|message|e-?mail)|automatically generated"
    r"|(?:have|has been|was) (?:successfully )?received your (?:request|message"
    r"|e-?mail|ticket|inquiry"
    r"|enquiry)|your (?:request|message|e-?mail|ticket|inquiry|enquiry|case)(?: \S+)?"
    r" (?:has been|was)"
    r" (?:successfully )?(?:received|registered|logged|created|closed|solved|resolved"
    r"|merged|updated)"
    r"|(?:ticket|case|request)(?: \S+)? (?:has been|was|is being|will be)"
    r" (?:automatically |now )?(?:closed|solved|merged|received|created)"
    r"|we (?:will|'ll) (?:get back|respond|reply|be in touch|answer)(?: to you)?"
    r"(?: as soon as| within| shortly)|a (?:member|colleague) of our team will"
    r"|(?:please )?do not reply|abwesenheitsnotiz|automatische (?:antwort|nachricht)"
    r"|ich bin (?:derzeit )?nicht im büro|ihre (?:anfrage|nachricht) (?:ist bei uns"
    r" eingegangen|wurde)"
    r"|wir haben ihre (?:anfrage|nachricht|e-mail) erhalten|(?:nous avons bien|avons) reçu votre"
    r"|réponse automatique|absent du bureau|hemos recibido su|respuesta automática"
    r"|fuera de la oficina|recebemos (?:a )?sua|resposta automática|abbiamo ricevuto la"
    r"|risposta automatica|wij hebben uw .{1,20} ontvangen|automatisch antwoord)"
)
_ELSEWHERE = re.compile(
    r"(?:see|find|refer to|check|sent|in) (?:the |my |our )?(?:attached|attachment"
    r"|enclosed|e-?mail i"
    r" sent|previous (?:e-?mail|message|reply|answer)|above|below)|please find attached"
    r"|(?:as )?(?:discussed|agreed|mentioned|explained|spoken|talked)(?: about)? "
    r"(?:on|over|by|via|in)"
    r" (?:the |our |a )?(?:phone|telephone|call|chat|person|meeting)|(?:as per|per|after|following)"
    r" (?:our|the|my) (?:phone |telephone )?(?:call|conversation|discussion|chat)"
    r"|(?:called|phoned|rang|spoke (?:to|with)|left (?:a )?voicemail (?:for|with)) (?:the )?"
    r"(?:customer|client|caller|cx|user|requester)|internal note|note to self|private note"
    r"|(?:customer|client|cx) (?:was )?(?:called|informed|contacted|notified) (?:by|via|over|on)"
    r"|(?:answered|handled|resolved|solved|done) (?:by|via|on|over|in) (?:the )?(?:phone|call|chat)"
    r"|see (?:other )?(?:ticket|case)|(?:duplicate|merged) (?:of|into|with)|siehe anhang"
    r"|wie telefonisch besprochen|im anhang|interne notiz|kunde angerufen|voir pièce"
    r" jointe|ci-joint"
    r"|comme convenu par téléphone|ver (?:el )?adjunto|como hablamos|nota interna|em anexo"
    r"|vedi allegato|in allegato|zie bijlage|zoals besproken|note interne"
)
# A word of each way to write the two above, or its beginning: without any of these, no answer is
# AUTOMATIC or ELSEWHERE.
_TELLTALES = tuple(
    """
office annual parental maternity sick auto automatic automated received registered logged created
closed solved resolved merged updated within soon shortly member colleague reply abwesenheitsnotiz
büro eingegangen wurde erhalten reçu absent recibido automática oficina recebemos ricevuto ontvangen
attached attachment enclosed sent previous above below discussed agreed mentioned explained spoken
talked call conversation discussion chat called phoned rang spoke voicemail internal private note
informed contacted notified answered handled done see duplicate siehe telefonisch anhang interne
angerufen voir ci convenu adjunto hablamos nota anexo vedi allegato zie besproken offices calls
chats notes sees wurden
""".split()
)
_IS_LINK = lookup(("www", "http", "https"))
_IS_TELLTALE = lookup(_TELLTALES)
_BEGINNINGS = frozenset(word[:8] for word in _TELLTALES)
# What may stand around a pointer without saying more: courtesies.
_COURTESY = re.compile(
    r"(?:hi|hello|hallo|dear|good (?:morning|afternoon|evening|day)|thanks?|thank you|best|kind"
    r"|regards|sincerely|please|sorry|cheers|merci|danke|gracias|liebe|viele|grüße|bonjour"
    r"|cordialement|saludos|guten tag)\b[^.!?\n]{0,40}"
)
_IS_COURTEOUS = lookup(
    """
hi hello hallo dear good thanks thank best kind regards sincerely please sorry cheers merci danke
gracias liebe viele bonjour cordialement saludos guten
""".split()
)
_BROKEN = re.compile("Ã[\x80-\xbf©¨¼¶¤Ÿ¡±]|â€|\ufffd|Ð[\x80-\xbf]Ñ")
_SAME_CHARS = re.compile(r"([^\W_]|[!?.,;*#=~-])\1{19,}")
_SENTENCES = re.compile(r"[.!?…]+(?:\s|$)|\n+")
_WORD = re.compile(r"\w+")
_NUMBERED = re.compile(r"\S*\d\S*")  # a detail shows no number of a customer's


Verdict = tuple[Reason, str] | None

_WORDLESS: Verdict = (Reason.NO_WORDS, "only links, placeholders or marks")


def verdict(turns: Sequence[Turn], shortest_answer: int) -> Verdict:
    """Why these turns are not worth training on, with a detail for people; None where they are.

    Judges the agent's words; the customer's only where they are gibberish as a whole.
    """
    answers = [turn.text for turn in turns if turn.role == "assistant"]
    asked = "\n".join(turn.text for turn in turns if turn.role == "user")
    # No answer at all has a reason of its own.
    return _judged("\n".join(answers), asked, shortest_answer) if answers else None


def verdicts(said: Sequence[str], asked: Sequence[str], shortest_answer: int) -> list[Verdict]:
    """The `verdict` on each two texts: all that the agent said, and that the customer asked.

    Most are so ordinary that counting words and vowels of all at once is enough.
    """
    found: list[Verdict] = []
    for first in range(0, len(said), _AT_ONCE):
        some = slice(first, first + _AT_ONCE)
        found += _verdicts(said[some], asked[some], shortest_answer)
    return found


def _verdicts(said: Sequence[str], asked: Sequence[str], shortest_answer: int) -> list[Verdict]:
    of_agents = words([text[:_SAMPLE] for text in said])
    of_customers = words([text[:_SAMPLE] for text in asked])
    sizes = np.fromiter(map(len, said), np.int64, len(said))
    ordinary = _ordinary(of_customers) | (of_customers.ends - of_customers.begins < _SHORT)
    ordinary &= _ordinary(of_agents)
    ordinary &= sizes >= shortest_answer + 2  # a few for white space around it
    telling = _may_point_elsewhere(of_agents) & (sizes < 2 * _LONG)
    linking = of_agents.counts(_IS_LINK.take(of_agents.keys)) > 0
    signs = np.flatnonzero(of_agents.kinds & SIGN)
    linking[np.searchsorted(of_agents.begins, signs, "right") - 1] = True
    found: list[Verdict] = [None] * len(said)
    for place in np.flatnonzero(~ordinary | linking | telling).tolist():
        text = said[place]
        if not ordinary[place]:
            found[place] = _judged(text, asked[place], shortest_answer)
        elif linking[place] and not _has_words(text):
            found[place] = _WORDLESS
        elif telling[place]:
            found[place] = _points_elsewhere(text)
    return [reason or _mojibake(text) for reason, text in zip(found, said, strict=True)]


def _may_point_elsewhere(found: Words) -> NDArray[np.bool_]:
    """Which texts have a telltale word, and hardly a sentence without one that is no courtesy."""
    telling = found.counts(_IS_TELLTALE.take(found.keys))
    others = found.counts(_IS_COURTEOUS.take(found.keys))
    kinds = found.kinds
    stops = (kinds[3:-1] & STOP) >> 3
    stops &= kinds[4:] >> 4  # white space behind it, and before it a word of three letters
    stops &= kinds[:-4] & kinds[1:-3] & kinds[2:-2] & WORD
    places = np.flatnonzero(stops) + 3
    sentences = np.bincount(
        np.searchsorted(found.begins, places, "right") - 1, minlength=found.begins.size
    )
    return (telling > 0) & (sentences - telling - others <= _EXPLAINED)


def _ordinary(found: Words) -> NDArray[np.bool_]:
    """Which texts have words, short ones with vowels, half of them different: no gibberish.

    Whatever `_gibberish` objects to is not among these; many that it does not object to neither.
    """
    sizes, counts = found.ends - found.begins, found.counts()
    ordinary = (12 * counts >= sizes) & (5 * _vowels(found) >= sizes) & (sizes > 0)
    different = np.zeros((sizes.size, 1024), np.bool_)
    different[found.rows, found.keys >> 6] = True
    packed = different.view(np.uint64).sum(1, dtype=np.uint64)  # 8 sums of up to 128, side by side
    ordinary &= (counts < 12) | (2 * packed.view(np.uint8).reshape(-1, 8).sum(1) >= counts + 3)
    gaps = np.diff(found.starts, append=found.kinds.size) - found.lengths
    long = np.flatnonzero((found.lengths > 19) | (gaps > 19))
    ordinary[found.rows[long]] = False
    return ordinary


def _vowels(found: Words) -> NDArray[np.int64]:
    """How many vowels each text has at least: those at its ends may be left out."""
    each = (found.kinds.view(np.uint64) >> np.uint64(1)) & np.uint64(0x0101010101010101)
    each *= np.uint64(0x0101010101010101)
    each >>= np.uint64(56)
    before = np.concatenate((np.zeros(1, np.int64), np.cumsum(each.view(np.int64))))
    vowels: NDArray[np.int64] = before[found.ends >> 3] - before[(found.begins + 7) >> 3]
    return vowels


def _judged(said: str, asked: str, shortest_answer: int) -> Verdict:
    if not _has_words(said):
        return _WORDLESS
    if len(said.strip()) < shortest_answer:
        return (
            Reason.SHORT_ANSWER,
            f"{len(said.strip())} characters, fewer than {shortest_answer}",
        )
    if found := _points_elsewhere(said):
        return found
    for who, text in (("agent", said), ("customer", asked)):
        if detail := _gibberish(text):
            return Reason.GIBBERISH, f"the {who} wrote {detail}"
    return _mojibake(said)


def _mojibake(said: str) -> Verdict:
    if not said.isascii() and (broken := len(_BROKEN.findall(said))) >= 3:
        return Reason.MOJIBAKE, f"{broken} characters that cannot be restored"
    return None


def _points_elsewhere(said: str) -> Verdict:
    if len(said) >= 2 * _LONG:
        return None
    lowered = said.lower()
    own = 0
    for sentence in _SENTENCES.split(lowered, 6)[:-1]:
        if _says_its_own(sentence.strip()):
            own += 1
            if own > _EXPLAINED or len(sentence) > _TELLING + 9:
                return None
    if found := _only(_AUTOMATIC, lowered, _EXPLAINED):
        return Reason.AUTOMATIC, f"the agent's only words: “{found}”"
    if len(said) < _LONG and not own and (found := _only(_ELSEWHERE, lowered, 0)):
        return Reason.ELSEWHERE, f"the answer is not in the text: “{found}”"
    return None


def _only(phrase: re.Pattern[str], lowered: str, others: int) -> str:
    """The first match, where besides it there are courtesies and at most `others` short sentences.

    An automatic reply explains itself in a few more sentences; more text is an answer.
    """
    first = phrase.search(lowered)
    if first is None:
        return ""
    sentences = [s.strip() for s in _SENTENCES.split(lowered) if len(s.strip()) > 2]
    telling = [rest for s in sentences if (rest := _beyond(phrase, s))]
    if len(telling) > others or any(len(rest) > _TELLING for rest in telling):
        return ""
    return _NUMBERED.sub("…", first[0])


def _says_its_own(sentence: str) -> bool:
    """Whether a sentence certainly has neither of the phrases, and is no courtesy."""
    if len(sentence) < 3 or _COURTESY.fullmatch(sentence):
        return False
    return _BEGINNINGS.isdisjoint([word[:8] for word in _WORD.findall(sentence)])


def _beyond(phrase: re.Pattern[str], sentence: str) -> str:
    """What a sentence says besides the phrase and courtesies, where that is worth mentioning."""
    if _COURTESY.fullmatch(sentence):
        return ""
    rest = phrase.sub("", sentence)
    if rest == sentence:
        return rest
    return " " * (_TELLING + 1) if len(rest) > _ASIDE else ""


def _has_words(text: str) -> bool:
    """Whether anything is left without placeholders, links and addresses."""
    beginning = text[:200].rpartition(" ")[0]
    return _any_word(beginning) or _any_word(text)


def _any_word(text: str) -> bool:
    rest = _LINK.sub(" ", _PLACEHOLDER.sub(" ", text))
    return any("@" not in word and any(map(str.isalnum, word)) for word in rest.split())


def _gibberish(text: str) -> str:
    """What is wrong with it, in words; empty where nothing is. Judges 1,000 characters."""
    if len(text) < _SHORT:
        return ""
    sample = text[:_SAMPLE].lower()
    split = sample.split()
    if max(map(len, split), default=0) > 19:
        same = list(_SAME_CHARS.finditer(sample))
        if 2 * sum(len(match[0]) for match in same) > len(sample):
            return f"one sign again and again: “{same[0][1] * 5}…”"
    if len(split) > 11 and 2 * len(set(split)) < len(split) + 3 and (found := _repeated(sample)):
        return found
    vowels = sum(map(sample.count, "aeiou"))
    return _unpronounceable(_WORD.findall(sample)) if 5 * vowels < len(sample) else ""


def _repeated(sample: str) -> str:
    words_ = _WORD.findall(sample)
    if len(words_) >= 12 and 2 * Counter(words_).most_common(1)[0][1] > len(words_):
        return "one word again and again"
    raw = sample.encode(errors="replace")
    # Two bytes at least for each different word: where these are too many, it need not be tried.
    may_be = len(raw) >= 200 and 2 * len(set(words_)) < 0.12 * len(raw)
    if may_be and len(compress(raw, 1)) < 0.12 * len(raw):
        return "the same words again and again"
    return ""


def _unpronounceable(all_: list[str]) -> str:
    """Keyboard mashing: most Latin words are long and have hardly a vowel, or too many in a row."""
    latin = [w for w in all_ if len(w) >= 5 and w.isalpha() and w < "\u0250"]
    if len(latin) < 4 or 2 * len(latin) < len(all_):
        return ""
    odd = [w for w in latin if 6 * sum(map(w.count, "aeiouyáéíóúàèäöüâêôãõå")) < len(w)]
    return "letters, not words" if 2 * len(odd) > len(latin) else ""
