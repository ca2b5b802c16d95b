"""Amazon Bedrock's own chat protocol, Converse: models that answer in this account and region.

A model is a foundation model's id, or an inference profile's (`us.…`, `global.…`), which routes to
several regions. docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, ParamValidationError

from dropforge.backends import Completion
from dropforge.errors import BackendError, RetryableError

_PASSING: Final = {
    "InternalServerException",
    "ModelErrorException",
    "ModelNotReadyException",
    "ModelTimeoutException",
    "ServiceUnavailableException",
    "ThrottlingException",
}
_HELD_BACK: Final = ("content_filtered", "guardrail_intervened")
_ACCESS: Final = (
    "List the model under `bedrock_judges` in the deployment, and see in Bedrock's console whether"
    " this account has access to it in this region. Some models answer only under an inference"
    " profile's id (`us.…`)."
)


class ConverseBackend:
    """Implements `ChatModel`.

    Args:
        timeout: seconds an answer may take.
    """

    def __init__(self, client: Any = None, timeout: float = 300.0) -> None:
        retries: Any = {"total_max_attempts": 3, "mode": "standard"}
        limits = Config(read_timeout=timeout, connect_timeout=10, retries=retries)
        self._bedrock = client or boto3.client("bedrock-runtime", config=limits)

    def complete(self, model: str, messages: list[dict[str, str]], max_tokens: int) -> Completion:
        """See `ChatModel.complete`; an answer that Bedrock held back is empty."""
        with _translated():
            answer = self._bedrock.converse(
                modelId=model,
                **_prompt(messages),
                inferenceConfig={"maxTokens": max_tokens, "temperature": 0.0},
            )
        used = answer["usage"]
        text = "" if answer["stopReason"] in _HELD_BACK else _text(answer)
        return Completion.of(text, used["inputTokens"], used["outputTokens"])


def _prompt(messages: list[dict[str, str]]) -> dict[str, Any]:
    """System messages apart; the others by turns, as Converse insists. Blank text it refuses."""
    system: list[dict[str, str]] = []
    turns: list[dict[str, Any]] = []
    for message in messages:
        role, text = message["role"], message["content"]
        if not text.strip():
            continue
        if role == "system":
            system.append({"text": text})
        elif turns and turns[-1]["role"] == role:
            turns[-1]["content"].append({"text": text})
        else:
            turns.append({"role": role, "content": [{"text": text}]})
    return {"messages": turns, **({"system": system} if system else {})}


def _text(answer: dict[str, Any]) -> str:
    """The answer's text; what the model thought before it is left out."""
    message = answer["output"].get("message") or {}
    return "".join(block.get("text", "") for block in message.get("content", ()))


@contextmanager
def _translated() -> Iterator[None]:
    """Bedrock's errors as ours.

    Raises:
        RetryableError: the same call may work later.
        BackendError: this account may not ask the model, or there is no such model.
    """
    try:
        yield
    except ClientError as error:
        told = error.response.get("Error", {})
        name = str(told.get("Code", ""))
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        if name in _PASSING or status == 429 or status >= 500:
            raise RetryableError(f"Bedrock answered {name}.") from error
        raise BackendError(
            f"Bedrock refuses to answer: {name}: {told.get('Message', '')}", hint=_ACCESS
        ) from error
    except ParamValidationError as error:
        raise BackendError("The request is none that Bedrock takes.") from error
    except BotoCoreError as error:
        raise RetryableError("Bedrock did not answer.") from error
