"""Golden questions: what a project's model must get right, whatever it was trained on.

Reads `projects/<name>/golden.jsonl`, which people write and drop beside project.yaml. The valid set
is kept in `judge/<project>/golden/<hash>.jsonl`; evaluations and the regular look at the model in
production ask it. Whether an answer is right is decided by rules, never by a judge: the same answer
is right or wrong every time.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Literal

import msgspec

from dropforge.artifacts import GoldenScore, digest
from dropforge.chat import ChatExample, Message, encode_lines
from dropforge.errors import ProjectError
from dropforge.judge import fact_recall, facts
from dropforge.patterns import check_pattern, occurs
from dropforge.text import normalise, same_text

MOST_QUESTIONS, MOST_BYTES, MOST_TEXT, MOST_PATTERN = 500, 1 << 20, 20_000, 500
CHALLENGER = "challenger"
NAMED_LINES = 50
"""Wrong lines that a message tells the reason of; beyond, it counts them."""

_BOM = b"\xef\xbb\xbf"
_WIDE = (b"\xff\xfe", b"\xfe\xff")
_HINT = "See docs/golden.md for what a line may hold; the last valid file stays in force."


class GoldenQuestion(msgspec.Struct, frozen=True):
    """One question with what makes an answer right.

    Attributes:
        messages: the chat before the answer; the last one is the customer's.
        must, must_not: phrases, or regular expressions between slashes; case and white space do
            not count.
    """

    id: str
    messages: tuple[Message, ...]
    reference: str
    must: tuple[str, ...] = ()
    must_not: tuple[str, ...] = ()
    topic: str = ""

    @property
    def question(self) -> str:
        """What the customer wrote last."""
        return self.messages[-1].content

    @property
    def example(self) -> ChatExample:
        """The question as a judge takes it: a ticket whose last answer is the reference."""
        answer = Message("assistant", self.reference)
        messages = (*self.messages, answer)
        return ChatExample(self.id, self.id, 0, messages, topic=self.topic)


class GoldenResult(msgspec.Struct, frozen=True):
    """What the models said to one question, by arm, and whether it was right."""

    id: str
    question: str
    reference: str
    answers: dict[str, str]
    right: dict[str, bool]


class _Said(msgspec.Struct, forbid_unknown_fields=True):
    role: Literal["user", "assistant"]
    content: str


class _Line(msgspec.Struct, forbid_unknown_fields=True):
    reference: str
    question: str | None = None
    messages: tuple[_Said, ...] | None = None
    id: str | int | None = None
    must: tuple[str, ...] = ()
    must_not: tuple[str, ...] = ()
    topic: str = ""


def parse_golden(data: bytes) -> tuple[GoldenQuestion, ...]:
    """The questions of a golden.jsonl, in its order; none for a file without a line.

    Raises:
        ProjectError: it is too large, or lines of it are wrong: each is named, with what is wrong.
            The message quotes no question and no answer.
    """
    if len(data) > MOST_BYTES:
        raise _wrong(f"has {len(data):,} bytes; the largest that is read has {MOST_BYTES:,}")
    if data.startswith(_WIDE):
        raise _wrong("is UTF-16; it has to be UTF-8")
    found: dict[str, tuple[int, GoldenQuestion]] = {}
    problems = []
    for number, line in enumerate(data.removeprefix(_BOM).split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            question = _question(line)
        except ValueError as error:
            problems.append(f"line {number}: {error}")
            continue
        first, _ = found.setdefault(question.id, (number, question))
        if first != number:
            problems.append(f"line {number}: the same id or question as line {first}")
    if problems:
        raise _wrong(f"is wrong: {'; '.join(_shown(problems))}")
    if len(found) > MOST_QUESTIONS:
        raise _wrong(f"has {len(found):,} questions; the most that are asked are {MOST_QUESTIONS}")
    return tuple(question for _, question in found.values())


def _wrong(said: str) -> ProjectError:
    return ProjectError(f"golden.jsonl {said}.", hint=_HINT)


def _shown(problems: Sequence[str]) -> list[str]:
    shown = list(problems[:NAMED_LINES])
    if more := problems[NAMED_LINES:]:
        numbers = ", ".join(said.split(":")[0].removeprefix("line ") for said in more)
        shown.append(f"and {len(more)} more: lines {numbers}")
    return shown


def _question(line: bytes) -> GoldenQuestion:
    """The question of one line. Raises ValueError that says what is wrong with it."""
    row = _row(line)
    messages = _messages(row)
    reference = row.reference.strip()
    if not reference:
        raise ValueError("`reference` is empty")
    own = digest("golden question/1", messages)[:12]
    name = own if row.id is None else str(row.id).strip()
    if not 0 < len(name) <= 100 or not name.isprintable():
        raise ValueError("`id` has to be 1 to 100 printable characters")
    made = GoldenQuestion(name, messages, reference, row.must, row.must_not, row.topic.strip())
    _check_rules(made)
    return made


def _row(line: bytes) -> _Line:
    try:
        return msgspec.json.decode(line, type=_Line)
    except msgspec.ValidationError as error:
        raise ValueError(_unquoted(str(error))) from error
    except (ValueError, RecursionError) as error:
        raise ValueError("not valid JSON in UTF-8") from error


def _unquoted(said: str) -> str:
    """What msgspec says of a line, without the line's own words."""
    if said.startswith("Object contains unknown field"):
        line, message = (
            ", ".join(f"`{name}`" for name in kind.__struct_fields__) for kind in (_Line, _Said)
        )
        return f"has an unknown field; known are {line}, and of one of `messages` {message}"
    if said.startswith("Invalid enum value"):
        return "the `role` of a message has to be `user` or `assistant`"
    return said


def _messages(row: _Line) -> tuple[Message, ...]:
    if (row.question is None) == (row.messages is None):
        raise ValueError("needs `question` or `messages`, one of the two")
    if row.question is not None:
        messages: tuple[Message, ...] = (Message("user", row.question),)
    else:
        messages = tuple(Message(m.role, m.content) for m in row.messages or ())
    if not messages or messages[-1].role != "user":
        raise ValueError("the last of `messages` has to be the user's")
    texts = [*(m.content for m in messages), row.reference, row.topic]
    if any(not m.content.strip() for m in messages):
        raise ValueError("a question or message is empty")
    if any(len(text) > MOST_TEXT for text in texts):
        raise ValueError(f"a text is longer than {MOST_TEXT:,} characters")
    return messages


def _check_rules(question: GoldenQuestion) -> None:
    for name, rules in (("must", question.must), ("must_not", question.must_not)):
        for place, rule in enumerate(rules, start=1):
            try:
                _check_rule(rule)
            except ValueError as error:
                raise ValueError(f"`{name}` {place} {error}") from error
    if not question.must and not facts(question.reference):
        raise ValueError(
            "`reference` has no number, code or address to look for: say in `must` what an answer"
            " has to contain"
        )
    if not is_right(question, question.reference):
        raise ValueError("`reference` itself would be wrong by `must` and `must_not`")


def _check_rule(rule: str) -> None:
    if len(rule) > MOST_PATTERN:
        raise ValueError(f"is longer than {MOST_PATTERN} characters")
    pattern = _pattern(rule)
    if pattern is None:
        if not _plain(rule):
            raise ValueError("is empty")
        return
    check_pattern(f"(?i){pattern}")
    if occurs(f"(?i){pattern}", ""):
        raise ValueError("would occur in every answer")


def is_right(question: GoldenQuestion, answer: str) -> bool:
    """Whether every `must` occurs in the answer and no `must_not` does.

    Without `must`, every fact of the reference has to be stated. Case and runs of white space do
    not count; a phrase that begins or ends with a digit does not occur inside a longer number.
    """
    text = _plain(answer)
    if any(_occurs(rule, text) for rule in question.must_not):
        return False
    if question.must:
        return all(_occurs(rule, text) for rule in question.must)
    return fact_recall(question.reference, answer) == 1


def _plain(text: str) -> str:
    return same_text(normalise(text))


def _pattern(rule: str) -> str | None:
    """The regular expression of a rule between slashes; None for a phrase."""
    rule = rule.strip()
    return rule[1:-1] if len(rule) > 2 and rule[0] == rule[-1] == "/" else None


def _occurs(rule: str, text: str) -> bool:
    pattern = _pattern(rule)
    if pattern is not None:
        return occurs(f"(?i){pattern}", text)
    return _phrase(rule).search(text) is not None


@lru_cache(maxsize=4096)
def _phrase(rule: str) -> re.Pattern[str]:
    phrase = _plain(rule)
    before = r"(?<!\d)(?<!\d[.,])" if phrase[0].isdigit() else ""
    after = r"(?!\d)(?![.,]\d)" if phrase[-1].isdigit() else ""
    return re.compile(before + re.escape(phrase) + after)


def golden_hash(questions: Iterable[GoldenQuestion]) -> str:
    """What stands for a set of questions, whatever their order: 64 hex digits."""
    return digest("golden/1", sorted(questions, key=lambda question: question.id))


def encode_golden(questions: Iterable[GoldenQuestion]) -> bytes:
    """The questions as a golden.jsonl that `parse_golden` reads back unchanged.

    It may be larger than a dropped file is allowed to be: what is kept is read by `decode_golden`.
    """
    return encode_lines(questions)


_questions = msgspec.json.Decoder(GoldenQuestion)


def decode_golden(data: bytes) -> tuple[GoldenQuestion, ...]:
    """The questions of a file that `encode_golden` wrote, whatever its size."""
    return tuple(_questions.decode_lines(data))


def graded(question: GoldenQuestion, answers: Mapping[str, str]) -> GoldenResult:
    """The answers to a question, by arm, with which of them are right."""
    right = {arm: is_right(question, answer) for arm, answer in answers.items()}
    return GoldenResult(question.id, question.question, question.reference, dict(answers), right)


def score(
    questions: Sequence[GoldenQuestion], results: Iterable[GoldenResult], against: str
) -> GoldenScore:
    """How many questions each arm got right, and which the challenger alone got wrong.

    Args:
        against: the arm that the challenger is held against. A question that one of the two was
            not asked counts for neither as the other's fault.
    """
    listed = list(results)
    arms = sorted({arm for result in listed for arm in result.right})
    return GoldenScore(
        hash=golden_hash(questions),
        questions=len(questions),
        right={arm: sum(result.right.get(arm, False) for result in listed) for arm in arms},
        against=against,
        worse=tuple(
            result.id
            for result in listed
            if result.right.get(against) and not result.right.get(CHALLENGER, True)
        ),
    )


def encode_results(results: Iterable[GoldenResult]) -> bytes:
    """JSONL, a result a line."""
    return encode_lines(results)


_decoder = msgspec.json.Decoder(GoldenResult)


def decode_results(data: bytes) -> tuple[GoldenResult, ...]:
    """The results of a file that `encode_results` wrote."""
    return tuple(_decoder.decode_lines(data))
