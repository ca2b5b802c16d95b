"""Conversations that teach a model nothing, or something wrong, and why.

Reads the turns after normalising, stripping and redacting; what is found here goes to `rejected/`
with a reason that a person understands.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from zlib import compress

from dropforge.export import Reason, Turn


_SAMPLE = 1000
_TELLING = 90
_ASIDE = 45
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
# What may stand around a pointer without saying more: courtesies.
_COURTESY = re.compile(
    r"(?:hi|hello|hallo|dear|good (?:morning|afternoon|evening|day)|thanks?|thank you|best|kind"
    r"|regards|sincerely|please|sorry|cheers|merci|danke|gracias|liebe|viele|grüße|bonjour"
    r"|cordialement|saludos|guten tag)\b[^.!?\n]{0,40}"
)
_BROKEN = re.compile("Ã[\x80-\xbf©¨¼¶¤Ÿ¡±]|â€|\ufffd|Ð[\x80-\xbf]Ñ")
_SAME_CHARS = re.compile(r"([^\W_]|[!?.,;*#=~-])\1{19,}")
_SENTENCES = re.compile(r"[.!?…]+(?:\s|$)|\n+")
_WORD = re.compile(r"\w+")
_NUMBERED = re.compile(r"\S*\d\S*")  # a detail shows no number of a customer's


def verdict(turns: Sequence[Turn], shortest_answer: int) -> tuple[Reason, str] | None:
    """Why these turns are not worth training on, with a detail for people; None where they are.

    Judges the agent's words; the customer's only where they are gibberish as a whole.
    """
    answers = [turn.text for turn in turns if turn.role == "assistant"]
    said = "\n".join(answers)
    if not answers:
        return None  # no answer at all has a reason of its own
    lowered = said.lower()
    if not _has_words(said):
        return Reason.NO_WORDS, "only links, placeholders or marks"
    if len(said.strip()) < shortest_answer:
        return (
            Reason.SHORT_ANSWER,
            f"{len(said.strip())} characters, fewer than {shortest_answer}",
        )
    if len(said) < 2 * _LONG and (found := _only_automatic(lowered)):
        return Reason.AUTOMATIC, f"the agent's only words: “{found}”"
    if len(said) < _LONG and (found := _only_elsewhere(lowered)):
        return Reason.ELSEWHERE, f"the answer is not in the text: “{found}”"
    asked = "\n".join(turn.text for turn in turns if turn.role == "user")
    for who, text in (("agent", said), ("customer", asked)):
        if detail := _gibberish(text):
            return Reason.GIBBERISH, f"the {who} wrote {detail}"
    if not said.isascii() and (broken := len(_BROKEN.findall(said))) >= 3:
        return Reason.MOJIBAKE, f"{broken} characters that cannot be restored"
    return None


def _only_automatic(lowered: str) -> str:
    """The automatic phrase, where most sentences have one or are courtesies."""
    return _only(_AUTOMATIC, lowered, 2)


def _only_elsewhere(lowered: str) -> str:
    return _only(_ELSEWHERE, lowered, 0)


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
    rest = _LINK.sub(" ", _PLACEHOLDER.sub(" ", text))
    return any("@" not in word and any(map(str.isalnum, word)) for word in rest.split())


def _gibberish(text: str) -> str:
    """What is wrong with it, in words; empty where nothing is. Judges 1,000 characters."""
    if len(text) < 24:
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
    words = _WORD.findall(sample)
    if len(words) >= 12 and 2 * Counter(words).most_common(1)[0][1] > len(words):
        return "one word again and again"
    raw = sample.encode(errors="replace")
    if len(raw) >= 200 and len(compress(raw, 1)) < 0.12 * len(raw):
        return "the same words again and again"
    return ""


def _unpronounceable(words: list[str]) -> str:
    """Keyboard mashing: most Latin words are long and have hardly a vowel, or too many in a row."""
    latin = [w for w in words if len(w) >= 5 and w.isalpha() and w < "\u0250"]
    if len(latin) < 4 or 2 * len(latin) < len(words):
        return ""
    odd = [w for w in latin if 6 * sum(map(w.count, "aeiouyáéíóúàèäöüâêôãõå")) < len(w)]
    return "letters, not words" if 2 * len(odd) > len(latin) else ""
