"""A table's row: cells -> what they say, by columns that are placed once."""

from __future__ import annotations

from collections.abc import Callable

from dropforge.errors import SchemaError
from dropforge.export.mapping import OTHER_NAMES, WHOLE_QUESTIONS, Names, canonical, named
from dropforge.export.rows import Conversation, Turn
from dropforge.export.shapes import Said, Shapes, told_by, transcript
from dropforge.export.shapes.found import first_label, person, with_subject


class TableRows:
    """What the rows below a header say.

    Raises:
        SchemaError: the columns make no conversation.
    """

    def __init__(self, header: list[str], names: Names) -> None:
        self._header = [canonical(name) for name in header]
        self._names = names
        self._shapes = Shapes(names)
        by_turn = transcript in told_by(self._header, names)
        self.read: Callable[[list[str], int], Conversation | Said]
        """What a row's cells say; raises UnknownShapeError."""
        self.read = self._turn if by_turn else self._pair
        if not by_turn:
            self._place_pair([name.lower() for name in header])

    def _place_pair(self, header: list[str]) -> None:
        question, answer = self._columns("question"), self._columns("answer")
        taken = set(answer[:1])
        question = [column for column in question if column not in taken]
        missing = [
            field for field, found in (("question", question), ("answer", answer)) if not found
        ]
        if missing:
            raise SchemaError(
                f"The table has no {' and no '.join(missing)} column; its columns: "
                f"{named(header)}.",
                hint="Name them under `columns:` in project.yaml.",
            )
        self._question, self._answer = question[0], answer[0]
        self._customer = self._columns("customer")
        self._id, self._language = self._columns("id"), self._columns("language")
        self._topic = self._columns("topic")
        self._people = [*self._columns("customer_name"), *self._placed(OTHER_NAMES)]
        alone = self._header[question[0]] in WHOLE_QUESTIONS
        subject = [] if alone else self._columns("subject")
        self._subject = [column for column in subject if column not in (question[0], answer[0])]
        more = "instruction" in self._header and "input" in self._header
        asks = self._header[question[0]] == "instruction"
        self._input = self._header.index("input") if more and asks else None

    def _columns(self, field: str) -> list[int]:
        return self._placed(self._names.of(field))

    def _placed(self, names: tuple[str, ...]) -> list[int]:
        return [self._header.index(name) for name in names if name in self._header]

    def _pair(self, cells: list[str], position: int) -> Conversation:
        question, answer = cells[self._question].strip(), cells[self._answer].strip()
        if self._input is not None and cells[self._input].strip():
            question = f"{question}\n\n{cells[self._input].strip()}"
        turns = tuple(
            turn for turn in (Turn("user", question), Turn("assistant", answer)) if turn.text
        )
        subject = _first(cells, self._subject)
        people = [person(cells[column]) for column in self._people]
        return Conversation(
            position,
            with_subject(subject, turns) if subject else turns,
            _first(cells, self._id),
            _first(cells, self._customer),
            tuple(dict.fromkeys(name for name in people if name)),
            _first(cells, self._language),
            first_label(_first(cells, self._topic)),
        )

    def _turn(self, cells: list[str], position: int) -> Conversation | Said:
        return self._shapes.read(dict(zip(self._header, cells, strict=True)), position)


def _first(cells: list[str], columns: list[int]) -> str:
    for column in columns:
        text = cells[column].strip()
        if text:
            return text
    return ""
