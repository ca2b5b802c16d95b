"""Parity: does the served model say what the trained one said?

A LoRA adapter that was good in training can be bad when it is served: another chat template, a
rank that was cut, an adapter on another base. Nothing of that is an error anywhere. So training
writes down what the model said to a few prompts (`parity.json` of training/train.py), the served
model is asked the same, and the two are compared before the judge is.

Reads the recording in `<output>/<job>/output/output.tar.gz`; the result is kept in
`train/<project>/<hash>/parity.json`, without any text.
"""

from __future__ import annotations

from itertools import zip_longest
from typing import Literal

import msgspec

from dropforge.errors import BackendError, ParityError

NEAR_TIE = 0.5
"""Nats between the best and the second token below which another kernel may choose the other.

bf16 has 8 significant bits, so logits between 16 and 32, where a language model's best tokens lie,
stand 1/8 apart: the two logits of a pair have to be off by two such steps each to change places
over 0.5. Measured on SmolLM2-135M (best logits about 24), bf16 against fp32 over 272 tokens of 12
answers: margins move by 0.05 in the median and 0.33 at most, and the choice turns over at margins
up to 0.16. Batch sizes, attention kernels, and LoRA weights beside the base instead of in it do no
more than that; see Yuan et al., "Understanding and Mitigating Numerical Sources of Nondeterminism
in LLM Inference" (arXiv 2506.09501).
"""

Compared = Literal["token ids", "text", "not recorded"]


class Prompt(msgspec.Struct, frozen=True):
    """A prompt and what the trained model made of it, greedily.

    Attributes:
        output_token_ids: the end token included, where it was reached.
        margins: for each of them, the best logit less the second, in nats.
        text: the same without special tokens.
    """

    messages: list[dict[str, str]]
    prompt_token_ids: list[int]
    output_token_ids: list[int]
    margins: list[float]
    text: str = ""

    @property
    def settled(self) -> int:
        """How many of the output's first tokens no rounding can change."""
        ties = (at for at, margin in enumerate(self.margins) if margin < NEAR_TIE)
        return min(next(ties, len(self.output_token_ids)), len(self.output_token_ids))


class Recording(msgspec.Struct, frozen=True):
    """`parity.json`, as training writes it."""

    base_model: str
    prompts: list[Prompt]


class Served(msgspec.Struct, frozen=True):
    """What a server answered; token ids are None where it does not tell them."""

    text: str
    prompt_tokens: int | None = None
    prompt_token_ids: list[int] | None = None
    token_ids: list[int] | None = None


class Parity(msgspec.Struct, frozen=True):
    """That trained and served model agree, and on how much.

    Attributes:
        compared: by token ids, or by text where the server tells no ids.
        tokens: output tokens that had to be equal, and were.
        near_ties: prompts whose output was compared up to a near tie only.
    """

    compared: Compared
    prompts: int = 0
    tokens: int = 0
    near_ties: int = 0


def read_recording(data: bytes) -> Recording:
    """The recording in `parity.json`. Raises BackendError where it has another form."""
    try:
        return msgspec.json.decode(data, type=Recording)
    except msgspec.MsgspecError as error:
        raise BackendError("The recording of the trained model cannot be read.") from error


def compare(trained: list[Prompt], served: list[Served]) -> Parity:
    """Hold each answer against the recording of its prompt.

    Prompts must have the very same token ids. Outputs must be equal up to the first near tie (see
    NEAR_TIE); after it two right models may go on differently. Without token ids, prompts are
    compared by their length, and outputs by their text where they have no near tie.

    Raises:
        ParityError: they differ; it names the prompt's number from 1, the position and both token
            ids, never a text.
    """
    by_ids = all(s.prompt_token_ids is not None and s.token_ids is not None for s in served)
    tokens = 0
    for number, (prompt, answer) in enumerate(zip(trained, served, strict=True), 1):
        _same_prompt(number, prompt, answer)
        tokens += _same_output(number, prompt, answer)
    return Parity(
        compared="token ids" if by_ids else "text",
        prompts=len(trained),
        tokens=tokens,
        near_ties=sum(p.settled < len(p.output_token_ids) for p in trained),
    )


def _same_prompt(number: int, prompt: Prompt, answer: Served) -> None:
    if answer.prompt_token_ids is not None:
        hint = "The server renders chats by another template than training did."
        _same_ids(number, "prompt", prompt.prompt_token_ids, answer.prompt_token_ids, hint)
        return
    wanted = len(prompt.prompt_token_ids)
    if answer.prompt_tokens is not None and answer.prompt_tokens != wanted:
        raise ParityError(
            f"Prompt {number} has {wanted} tokens in training and {answer.prompt_tokens} served.",
            hint="The server renders chats by another template than training did.",
        )


def _same_output(number: int, prompt: Prompt, answer: Served) -> int:
    """How many tokens were compared. Raises ParityError."""
    hint = "Look at the adapter's rank, its base model, and what the server does to logits."
    settled = prompt.settled
    whole = settled == len(prompt.output_token_ids)
    if answer.token_ids is not None:
        trained = prompt.output_token_ids[:settled]
        # Served may go on where training cut its output; an end before that is a difference.
        _same_ids(number, "output", trained, answer.token_ids[:settled], hint)
        return settled
    if not whole:
        return 0
    if prompt.text.strip() != answer.text.strip():
        raise ParityError(f"Prompt {number} is answered otherwise than in training.", hint=hint)
    return settled


def _same_ids(number: int, part: str, trained: list[int], served: list[int], hint: str) -> None:
    for at, (one, other) in enumerate(zip_longest(trained, served)):
        if one != other:
            said = [("no token" if token is None else f"token {token}") for token in (one, other)]
            raise ParityError(
                f"Prompt {number}: {part} position {at} is {said[0]} in training and {said[1]}"
                " served.",
                hint=hint,
            )
