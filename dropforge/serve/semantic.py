"""Which questions may share an answer, as far as their words tell: the guard of the semantic cache.

An embedding hardly sees that a number, a negation or a name is another. So two questions are only
compared where their signatures are equal. English is read: fillers are dropped, a lexicon joins
ways to say the same thing, and what is left has to be the same words in the same order, with who
speaks ("I") and who is spoken to ("you") among them, and with the modal verb, the tense, the voice,
the numbers and what each negation is about. A text in which too few words are known to be English
is its own words, in their order.

Pure, and imports nothing but the standard library: the chat path reads this.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

MOST_CHARACTERS = 600
"""Embeddings of sentence models look at the first 256 tokens; a longer question is left alone."""
LEAST_ENGLISH = 0.25
"""Of the words, those that only English has."""

_TOKEN = re.compile(
    r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+|https?://\S+|[<\[{][A-Za-z_]+\d*[>\]}]"
    r"|[$€£¥]?\d+(?:[.,:/]\d+)*%?(?:[-\w]*\w)?|\w+(?:-\w+)*(?:'\w+)?|[$€£¥%+<>=,;.!?]"
)
_PHRASES = tuple(
    (re.compile(rf"\b(?:{pattern})\b"), instead)
    for pattern, instead in (
        (r"(?:can|won|shan)'t|cannot", "can not"),
        (r"(\w+)n't", r"\1 not"),
        (r"no longer|no more|not any ?more", "not longer"),
        (r"i'd (?:like|love|want)|i (?:would|should) like", "howto"),
        (r"(?<!do )(?<!did )(?<!should )i (?:want|wish|need|am trying|try)", "howto"),
        (r"(?:can|could|would|will) you (?:please )?(?:tell|explain|show|help|let)"
         r"(?: to)?(?: me)?(?: know)?", ""),
        (r"(?:please )?(?:tell|explain|show)(?: to)?(?: me)?|(?:do you|i) know", ""),
        (r"how (?:do|can|could|would|should|must) (?:i|we|you|one)(?: go about)?", "howto"),
        (r"what (?:do|should|must) (?:i|we) (?:have to |need to )?do(?: to| if| when)?", "howto"),
        (r"what (?:is|are) the (?:best |right )?(?:way|steps?)(?: to)?", "howto"),
        (r"is there a way to|how to|howto to|what now", "howto"),
        (r"where (?:can|could|do) (?:i|we)", "where i"),
        (r"(?:how much|what) (?:do|does|will|would) (.+) cost", r"price \1"),
        (r"how much (?:is|are)", "price"),
        (r"what (?:is|are) the (?:(\w+) )?(?:price|cost)s?(?: (?:of|for))?", r"price \1"),
        (r"how (?:big|large) (?:is|are)", "size"),
        (r"what (?:is|are) the (?:dimensions?|sizes?|measures) (?:of|for)", "size"),
        (r"how long (?:do|does|will|would) it take to", "howlong"),
        (r"how long (?:do|does|will|would) (.+) (?:take|last)", r"howlong \1"),
        (r"how long (?:is|are)", "howlong"),
        (r"what is the (?:delivery|shipping) time", "howlong delivery"),
        (r"is it (?:possible|ok|okay|allowed)(?: for me)?(?: to)?", "can i"),
        (r"am i (?:able|allowed|permitted) to|(?:may|could|might) (?:i|we)|can we", "can i"),
        (r"do (?:i|we) (?:have|need) to|must (?:i|we)|am i required to", "must i"),
        (r"(?:get|have|want) (?:my|the) money back|money back", "refund"),
        (r"(?:send|give|bring|ship)(?:ing)? (\w+ )?back", r"return \1"),
        (r"(?:promo|promotion|promotional|discount|voucher|coupon) codes?", "coupon"),
        (r"e-?mails?(?: address(?:es)?)?", "email"),
        (r"(?:log|sign)(?:ging|ing)? (?:in|on)(?:to)?", "login"),
        (r"put(?:ting)? together", "assemble"),
        (r"pick(?:ing)? up", "collect"),
        (r"call(?:ing)? off", "cancel"),
        (r"get(?:s)? here|get(?:s)? to me", "arrive"),
        (r"(?:come|comes) with|is there|are there", "exists"),
        (r"do you (?:have|sell|offer|carry)|have you got", "exists"),
        (r"(?:is|are) (?=.* (?:available|in stock|sold))", "exists "),
        (r"available|in stock|on stock", ""),
        (r"for free|free of charge|at no cost", "free"),
        (r"right now|at the moment|currently", "now"),
        (r"\A(if|when|once|because|since|while|unless|until) ([^,]+), (?:then )?([^,?.!]+)",
         r"\3 \1 \2"),
    )
)  # fmt: skip
_FILLERS = frozenset(
    """a an the this that these those is are am be been being its of for to and my mine our please
    thanks thank hi hello hey dear so just really kindly well ok okay sir madam team do does did has
    have had can could should would may might must shall will was were get got as question
    wondering""".split()
)
"""These say nothing by themselves; "for" and "to" are kept where they decide (`_TO_AFTER`)."""
_ROLES = {
    **dict.fromkeys("i me myself we us ourselves".split(), "i"),
    **dict.fromkeys("you yourself yourselves".split(), "you"),
}
_ENGLISH = (
    _FILLERS
    | _ROLES.keys()
    | frozenset(
        """your yours it in on at with by about into here there how what when where who why which if
        not from before after or any all they he she his her their them howto price refund return
        cancel exists size howlong delivery no never""".split()
    )
)
_QUESTIONS_AS = {"what": "which", "whose": "who", "whom": "who"}
_MODALS = frozenset("can could must should shall will would may might".split())
_BE_OR_HAVE = frozenset("is are am be been being was were get got have has had".split())
_NEGATIONS = frozenset("not no never none nobody nothing neither nor without unable hardly".split())
_TO_AFTER = frozenset("from switch change move transfer upgrade downgrade convert give".split())
_SIGNS = frozenset("$€£¥%+<>=")
_PAST = frozenset("did was were had been".split())
_DEMONSTRATIVES = frozenset("this that these those".split())
_OTHERS = {
    **dict.fromkeys("he him his".split(), "his"),
    **dict.fromkeys("she her hers".split(), "hers"),
    **dict.fromkeys("they them their theirs".split(), "theirs"),
}
_PEOPLE = frozenset({*_ROLES.values(), *_OTHERS.values()})
_YOURS = frozenset("store website site shop team company online homepage page".split())
"""What is the shop's own in any case: "your shop" is "the shop"."""
_SWAPS = frozenset("exchange swap replace trade substitute switch".split())
_CLAUSES = frozenset(
    ", ; . ! ? and but or if when because although though while unless until".split()
)
_COUNT = """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen
fifteen sixteen seventeen eighteen nineteen twenty""".split()
_NUMBERS = {
    **{name: str(number) for number, name in enumerate(_COUNT)},
    **dict(
        pair.split("=")
        for pair in """thirty=30 forty=40 fifty=50 sixty=60 seventy=70 eighty=80 ninety=90
        hundred=100 thousand=1000 million=1e6 dozen=12 couple=2 pair=2 half=1/2 once=1x twice=2x
        single=1 double=2x triple=3x both=both first=1. second=2. third=3. fourth=4. fifth=5.
        last=-1.""".split()
    ),
}
_LEXICON = tuple(
    words.split()
    for words in (
        "buy purchase order ordered bought",
        "ship deliver dispatch send sent delivery shipping shipment",
        "arrive receive come came reach",
        "parcel package packet",
        "broken damaged defective faulty broke",
        "change update edit modify alter",
        "store shop",
        "cost price",
        "work working works function",
        "refund reimburse reimbursement",
        "last lasts",
        "phone telephone",
        "big large",
        "photo picture",
    )
)
_IRREGULAR = {"paid": "pay", "sold": "sell", "took": "take", "taken": "take", "kept": "keep",
              "gave": "give", "given": "give", "made": "make", "found": "find", "went": "go",
              "chose": "choose", "chosen": "choose", "children": "child"}  # fmt: skip


def signature(question: str) -> str | None:
    """What a question's words say that an embedding may miss; None for one that is left alone.

    Equal signatures say: as far as words tell, the same is asked.
    """
    if not question.strip() or len(question) > MOST_CHARACTERS:
        return None
    text = unicodedata.normalize("NFKC", question).replace("’", "'").casefold()
    plain = _TOKEN.findall(text)
    for pattern, instead in _PHRASES:
        text = pattern.sub(instead, text)
    tokens = _TOKEN.findall(text)
    if not tokens:
        return None
    if sum(token in _ENGLISH for token in tokens) < LEAST_ENGLISH * len(tokens):
        return "verbatim:" + " ".join(plain)
    return "|".join(_features(tokens))


def _features(tokens: list[str]) -> Iterator[str]:
    words = [_canonical(token) for token in tokens]
    is_past = any(map(_is_past, tokens))
    yield "" if not is_past else "past" if _BE_OR_HAVE.isdisjoint(tokens) else "participle"
    yield " ".join(_sequence(tokens, words))
    yield " ".join(_number(token) for token in tokens if _number(token))
    yield " ".join(sorted(_negated(tokens, words)))


def _sequence(tokens: list[str], words: list[str]) -> Iterator[str]:
    """What is said, in its order: who does what to whom. Negations have their own place."""
    directed = {"to"} if _TO_AFTER & {*words, *tokens} else set()
    if _SWAPED & set(words):
        directed |= {"to", "for"}
    if sum(token in _DEMONSTRATIVES for token in tokens) > 1:
        directed |= _DEMONSTRATIVES
    for place, (token, word) in enumerate(zip(tokens, words, strict=True)):
        to_person = (words[place + 1 :] or [""])[0] in _PEOPLE
        if token in ("your", "yours"):
            about = next((word for word in words[place + 1 :] if word), "")
            if about not in _YOURS:
                yield "your"
        elif token in _PAST:
            yield "past"
        elif token in directed or token in _MODALS or (token in ("for", "to") and to_person):
            yield token
        elif word and token not in _NEGATIONS:
            yield f"{word}'s" if token.endswith("'s") else word


def _negated(tokens: list[str], words: list[str]) -> Iterator[str]:
    """Of each negation the words of its clause, and the next one where that is an infinitive."""
    for place, token in enumerate(tokens):
        if token in _NEGATIONS:
            after = [word for word in words[place + 1 :] if word]
            infinitive = tokens[place + 1 : place + 2] == ["to"] and after
            about = f"to {after[0]}" if infinitive else ",".join(_clause(tokens, words, place))
            yield f"{token}({about})" if infinitive else f"not({about})"


def _clause(tokens: list[str], words: list[str], place: int) -> list[str]:
    """The words around a place, up to the next comma or conjunction; sorted."""
    ends = [at for at, token in enumerate(tokens) if token in _CLAUSES]
    start = max((at for at in ends if at < place), default=-1) + 1
    stop = min((at for at in ends if at > place), default=len(tokens))
    return sorted({word for word in words[start:stop] if word})


def _canonical(token: str) -> str:
    """The word that stands for this one; "" for a filler."""
    if token in _ROLES:
        return _ROLES[token]
    if token in _FILLERS or token in ("your", "yours") or (len(token) == 1 and not token.isalnum()):
        return token if token in _SIGNS else ""
    token = token.removesuffix("'s") if token.endswith("'s") else token
    token = _QUESTIONS_AS.get(token, token)
    known = _OTHERS.get(token) or _SAME.get(token) or _IRREGULAR.get(token)
    if known:
        return known
    stem = _stem(token)
    return _SAME.get(stem, stem)


def _stem(token: str) -> str:
    if not token.isalpha() or len(token) <= 3:
        return token
    for ending, least in (("ies", 3), ("ing", 4), ("ed", 4), ("es", 4), ("s", 3)):
        if token.endswith(ending) and len(token) - len(ending) >= least:
            if token.endswith(("ss", "us")):
                break
            token = token[: -len(ending)] + ("y" if ending == "ies" else "")
            if len(token) > 4 and token[-1] == token[-2] and token[-1] not in "ls":
                token = token[:-1]
            break
    return token.removesuffix("e")


_IRREGULAR_PAST = frozenset(
    """paid sold kept made found sent bought lost built held left told brought put cut worn torn
    done gone won gave took went came wrote broke chose""".split()
)
_SAME = {form: words[0] for words in _LEXICON for word in words for form in (word, _stem(word))}
_SWAPED = _SWAPS | {_stem(word) for word in _SWAPS}


def _is_past(token: str) -> bool:
    """A verb's past, or its participle; a few other words that end so do no harm."""
    if _SAME.get(token) == "broken":  # is as good as an adjective
        return False
    return token in _IRREGULAR_PAST or (len(token) > 4 and token.endswith(("ed", "en")))


def _number(token: str) -> str:
    """The number that a word says, and every token that holds a digit."""
    if any(character.isdigit() for character in token):
        return token.replace(",", ".")
    return _NUMBERS.get(token, "")


_ANSWER_NUMBER = re.compile(r"\d+(?:[.,:]\d+)*")
_ANSWER_NOT = re.compile(r"\b(?:not|no|never|cannot|unfortunately|sorry)\b|n't\b")
SAME_ANSWER = 0.8


def agree(kept: str, fresh: str, cosine: float) -> bool:
    """Whether two answers say the same, as far as can be told without a judge.

    They do where both hold the same numbers, both or neither denies anything, and their embeddings
    are near. It errs both ways: a model that words an answer anew can fail this though it said the
    same, and answers pass it that differ in a name alone.
    """
    one, other = (text.replace("’", "'").casefold() for text in (kept, fresh))
    if set(_ANSWER_NUMBER.findall(one)) != set(_ANSWER_NUMBER.findall(other)):
        return False
    if bool(_ANSWER_NOT.search(one)) != bool(_ANSWER_NOT.search(other)):
        return False
    return cosine >= SAME_ANSWER
