"""The SageMaker endpoint: a base model as one inference component, every adapter as another.

A new version costs no new instance. The endpoint scales to zero, and then answers with errors
until a copy has started.
"""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any, NamedTuple

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from dropforge.backends import Completion
from dropforge.backends.sagemaker_errors import code, is_missing, is_passing, translated
from dropforge.errors import AsleepError, BackendError, RetryableError, TrainingNotAvailableError
from dropforge.parity import Served
from dropforge.train import Completed, Failed, JobState, Pending

if TYPE_CHECKING:
    from types_boto3_sagemaker import SageMakerClient

NO_ENDPOINT = "Deploy with `-c sagemaker.enabled=true`, and upload the base model's weights before."


class BaseModel(NamedTuple):
    """What an endpoint's base component runs: the weights' S3 URI and the container's image."""

    weights: str
    image: str


class Endpoint:
    """One endpoint.

    Args:
        base_component: name of the base model's inference component.
        max_wait: seconds an answer may take.
    """

    def __init__(
        self, name: str, base_component: str, client: SageMakerClient, max_wait: float
    ) -> None:
        self.name = name
        self._base = base_component
        self._sagemaker = client
        self.runtime: Any = boto3.client(
            "sagemaker-runtime", config=Config(read_timeout=max_wait, retries={"max_attempts": 0})
        )

    def base_model(self) -> BaseModel:
        """What is served, if it can be.

        Raises:
            TrainingNotAvailableError: there is no such endpoint, or it has failed.
        """
        with translated("to describe the endpoint"):
            endpoint = self._described("endpoint", self.name)
            self._usable(f"endpoint {self.name}", endpoint, "EndpointStatus")
            base = self._described("inference_component", self._base)
            self._usable(f"inference component {self._base}", base, "InferenceComponentStatus")
            model = self._described("model", str((base or {})["Specification"]["ModelName"])) or {}
        container = model.get("PrimaryContainer", {})
        source = container.get("ModelDataSource", {}).get("S3DataSource", {})
        return BaseModel(source.get("S3Uri", ""), container.get("Image", ""))

    def _usable(self, what: str, found: dict[str, Any] | None, status: str) -> None:
        if found is None:
            raise TrainingNotAvailableError(f"There is no {what}.", hint=NO_ENDPOINT)
        if found[status] == "Failed":
            raise TrainingNotAvailableError(
                f"The {what} has failed: {found.get('FailureReason', 'no reason given')}",
                hint="Look at its logs in CloudWatch, and deploy again.",
            )

    def _described(self, kind: str, name: str) -> dict[str, Any] | None:
        member = "".join(part.capitalize() for part in kind.split("_")) + "Name"
        try:
            found: Any = getattr(self._sagemaker, f"describe_{kind}")(**{member: name})
        except ClientError as error:
            if is_missing(error):
                return None
            raise
        return dict(found)

    def deploy(self, component: str, artifact: str) -> JobState:
        """Serve an adapter under the component's name, and say how far that is.

        Raises:
            RetryableError, TrainingNotAvailableError, BackendError: as SageMaker refuses.
        """
        with translated("to serve the adapter"):
            found = self._described("inference_component", component)
            if found is None:
                self._create(component, artifact)
                return Pending("deploying")
        if found["InferenceComponentStatus"] == "InService":
            return Completed(component)
        if found["InferenceComponentStatus"] == "Failed":
            return Failed(found.get("FailureReason", "the adapter could not be deployed"))
        return Pending("deploying")

    def _create(self, component: str, artifact: str) -> None:
        try:
            self._sagemaker.create_inference_component(
                **component_request(component, self.name, self._base, artifact)
            )
        except ClientError as error:
            # A name that is taken is a ValidationException too: then another call was faster.
            if not is_missing(error) or self._described("inference_component", component) is None:
                raise

    def answer(self, model: str, messages: list[dict[str, str]], max_tokens: int) -> Served:
        """The greedy answer, with the token ids of prompt and answer where the server tells them.

        `return_token_ids` is vLLM's (0.10.2 and later); servers that do not know it leave it out.

        Raises:
            RetryableError, BackendError: as `complete`.
        """
        body = {"messages": messages, "max_tokens": max_tokens, "temperature": 0}
        said = self._invoke(model, {**body, "return_token_ids": True})
        try:
            return Served(
                text=_text(said),
                prompt_tokens=said.get("usage", {}).get("prompt_tokens"),
                prompt_token_ids=_ids(said.get("prompt_token_ids")),
                token_ids=_ids(said["choices"][0].get("token_ids")),
            )
        except (LookupError, TypeError, AttributeError) as error:
            raise BackendError("The endpoint's answer is no chat completion.") from error

    def complete(self, model: str, messages: list[dict[str, str]], max_tokens: int) -> Completion:
        """The text of the greedy answer.

        Raises:
            AsleepError: the endpoint has no copy; it has been asked to start one.
            RetryableError: it is throttled or does not answer.
            BackendError: it refuses, or the answer is none.
        """
        body = {"messages": messages, "max_tokens": max_tokens, "temperature": 0}
        try:
            said = self._invoke(model, body)
            used = said.get("usage") or {}
            return Completion.of(
                _text(said), used.get("prompt_tokens"), used.get("completion_tokens")
            )
        except (LookupError, TypeError, AttributeError) as error:
            raise BackendError("The endpoint's answer is no chat completion.") from error

    def _invoke(self, component: str, body: dict[str, Any]) -> dict[str, Any]:
        try:
            answer = self.runtime.invoke_endpoint(
                EndpointName=self.name,
                InferenceComponentName=component,
                ContentType="application/json",
                Body=json.dumps(body).encode(),
            )
            said = json.loads(answer["Body"].read())
        except ClientError as error:
            raise self._refusal(component, error) from error
        except BotoCoreError as error:
            raise RetryableError("The endpoint did not answer.") from error
        except ValueError as error:
            raise BackendError("The endpoint's answer is no chat completion.") from error
        if not isinstance(said, dict):
            raise BackendError("The endpoint's answer is no chat completion.")
        return said

    def _refusal(self, component: str, error: ClientError) -> BackendError:
        """An invocation's error as ours, without its message: that can quote what a customer wrote.

        At zero copies the runtime answers `ValidationError` ("Inference Component has no capacity
        to process this request"), as it does for a component that does not exist; no code tells
        the two apart, so the component is looked for. A container's own trouble is `ModelError`
        with the container's status.
        """
        name = code(error)
        if is_passing(error) or (name == "ModelError" and _busy(error)):
            return RetryableError(f"The endpoint answered {name}.")
        if name == "ValidationError" and self._served(component):
            self._wake()
            return AsleepError("The endpoint has no running copy yet.")
        return BackendError(f"The endpoint answered {name}.")

    def _wake(self) -> None:
        """Ask for a copy of the base model; scaling takes it away again when nobody asks."""
        if not self._base:
            return
        with contextlib.suppress(ClientError, BotoCoreError):  # the alarm on failures wakes it too
            self._sagemaker.update_inference_component_runtime_config(
                InferenceComponentName=self._base, DesiredRuntimeConfig={"CopyCount": 1}
            )

    def _served(self, component: str) -> bool:
        try:
            with translated("to describe the inference component"):
                found = self._described("inference_component", component)
        except BackendError:
            return False
        return found is not None and found["InferenceComponentStatus"] != "Failed"


def component_request(component: str, endpoint: str, base: str, artifact: str) -> dict[str, Any]:
    """The request of CreateInferenceComponent for an adapter on a base component."""
    return {
        "InferenceComponentName": component,
        "EndpointName": endpoint,
        "Specification": {
            "BaseInferenceComponentName": base,
            "Container": {"ArtifactUrl": artifact},
        },
    }


def _busy(error: ClientError) -> bool:
    response: dict[str, Any] = {**error.response}
    status = response.get("OriginalStatusCode", 0)
    return bool(status == 429 or status >= 500)


def _text(said: dict[str, Any]) -> str:
    return str(said["choices"][0]["message"]["content"] or "").encode("utf-8", "replace").decode()


def _ids(value: object) -> list[int] | None:
    if not isinstance(value, list) or not all(isinstance(token, int) for token in value):
        return None
    return value
