"""What submit and collect share: a look's questions, and the batches in which they are asked.

A look is the batches of tickets that the plan asks for at once. What is asked of the judges stands
in `judge/<project>/<hash>/prompts-NNN.jsonl`; the ids of those questions name everything here, so
a run that is started again finds what was sent, and paid for, before.
"""

from __future__ import annotations

import msgspec

from dropforge.artifacts import batch_name, digest, evaluation_key
from dropforge.backends.openai_api.batches import Batches
from dropforge.judge import Question
from dropforge.project.judging import JudgeChoice
from dropforge.settings import JudgeSettings
from lambdas.edge import Edge, Event
from lambdas.providers import hosted, openai_backend


class Sent(msgspec.Struct, frozen=True):
    """`judge/<project>/<hash>/sent-<look>.json`: an intent, stored before anything is sent.

    Attributes:
        started_at: when the newest of the batches was created, in seconds since the epoch; before
            there is one, when the intent was stored.
        batches: by juror, the provider's ids; none where the judge is asked directly. A juror that
            is missing may have been sent its questions, or not.
    """

    started_at: float
    batches: dict[int, tuple[str, ...]] = {}


class Look:
    """One look of an evaluation, as far as its tickets were answered.

    Attributes:
        questions: by batch of tickets, those to the judges; golden questions are for none.
        unjudged: the batches of tickets that are not judged yet.
    """

    def __init__(self, edge: Edge, event: Event) -> None:
        self.edge, self._hash = edge, str(event["plan"]["hash"])
        decoder = msgspec.json.Decoder(Question)
        lines = {
            index: edge.store.find(self.key(batch_name(index, "prompts")))
            for index in map(int, event["plan"]["batches"])
        }
        self.questions: dict[int, list[Question]] = {
            index: decoder.decode_lines(data) for index, data in lines.items() if data is not None
        }
        self.unjudged = [
            index
            for index in self.questions
            if edge.store.find(self.key(batch_name(index))) is None
        ]
        self.name = digest("look", [question.id for question in self.all])[:16]

    @property
    def all(self) -> list[Question]:
        return [question for asked in self.questions.values() for question in asked]

    def key(self, name: str) -> str:
        return evaluation_key(self.edge.run.project, self._hash, name)

    @property
    def sent_key(self) -> str:
        return self.key(f"sent-{self.name}.json")

    @property
    def answers_key(self) -> str:
        return self.key(f"opinions-{self.name}.jsonl")

    def order_name(self, juror: int) -> str:
        """What a judge's batches are called at the provider."""
        return f"{self._hash[:16]}-{self.name}-{juror}"


def batches_of(choice: JudgeChoice, settings: JudgeSettings) -> Batches | None:
    """The batch API of a judge's provider; None where it has none.

    Raises:
        TrainingNotAvailableError: this deployment reaches no such provider.
    """
    if choice.provider is None:
        return openai_backend(settings.judge_base_url, settings.judge_secret_arn).batches()
    if choice.provider == "converse":
        return None
    return hosted(choice.provider, settings).batches()
