"""Endpoints and inference components: adapters loaded, invocations sent on to the model server.

Reads an adapter from S3: a `model.tar.gz`, or the files below a prefix. The model server knows an
adapter by its component's name; the base component answers as the base model.
"""

from __future__ import annotations

import json
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import httpx
from botocore.exceptions import BotoCoreError, ClientError

from local.sagemaker import eventstream
from local.sagemaker.copies import Copies
from local.sagemaker.errors import (
    InvalidRequestError,
    ModelAnswerError,
    ModelNotReadyError,
    NotFoundError,
    RuntimeRefusalError,
)
from local.sagemaker.records import Record, Records
from local.sagemaker.storage import Storage, unpack
from local.settings import ACCOUNT, REGION

ANSWER_SECONDS: Final = 60
"""How long a real-time endpoint waits for its container; the API reference of InvokeEndpoint."""

LOAD_SECONDS: Final = 120
SUMMARY: Final = (
    *("InferenceComponentName", "InferenceComponentArn", "InferenceComponentStatus"),
    *("EndpointName", "EndpointArn", "VariantName", "CreationTime", "LastModifiedTime"),
)
VARIANT: Final = "AllTraffic"


class LoadError(Exception):
    """An adapter could not be loaded; the message becomes the component's FailureReason."""


class Endpoints:
    """The endpoints and components below a folder, in front of one model server."""

    def __init__(self, folder: Path, storage: Storage, model_server: str, base_model: str) -> None:
        self._folder = folder
        self._storage = storage
        self._base_model = base_model
        self._models_known = Records(folder / "models")
        self._endpoints = Records(folder / "endpoints")
        self._components = Records(folder / "components")
        self.copies = Copies(self._components)
        self._models = httpx.Client(base_url=model_server, trust_env=False, timeout=ANSWER_SECONDS)

    def create_model(self, request: Record) -> Record:
        """CreateModel; the base model of the model server stands for any."""
        name = request["ModelName"]
        arn = _arn("model", name)
        record = {**request, "ModelArn": arn, "CreationTime": time.time()}
        if not self._models_known.create(name, record):
            raise InvalidRequestError(f'Cannot create already existing model "{arn}".')
        return {"ModelArn": arn}

    def describe_model(self, request: Record) -> Record:
        """DescribeModel. Raises NotFoundError."""
        record = self._models_known.get(request["ModelName"])
        if record is None:
            raise NotFoundError(f'Could not find model "{_arn("model", request["ModelName"])}".')
        return record

    def create_endpoint(self, request: Record) -> Record:
        """CreateEndpoint; any configuration is taken, and it is in service at once."""
        name, now = request["EndpointName"], time.time()
        record = {
            "EndpointName": name,
            "EndpointArn": _arn("endpoint", name),
            "EndpointConfigName": request["EndpointConfigName"],
            "EndpointStatus": "InService",
            "CreationTime": now,
            "LastModifiedTime": now,
        }
        if not self._endpoints.create(name, record):
            raise InvalidRequestError(
                f'Cannot create already existing endpoint "{record["EndpointArn"]}".'
            )
        return {"EndpointArn": record["EndpointArn"]}

    def describe_endpoint(self, request: Record) -> Record:
        """DescribeEndpoint. Raises NotFoundError."""
        record = self._endpoints.get(request["EndpointName"])
        if record is None:
            arn = _arn("endpoint", request["EndpointName"])
            raise NotFoundError(f'Could not find endpoint "{arn}".')
        return record

    def create_component(self, request: Record) -> Record:
        """CreateInferenceComponent: of the base model, or of an adapter on top of it."""
        name, now = request["InferenceComponentName"], time.time()
        endpoint = self.describe_endpoint(request)
        specification = request.get("Specification", {})
        base = specification.get("BaseInferenceComponentName")
        if base is not None:
            self.describe_component({"InferenceComponentName": base})
            if not specification.get("Container", {}).get("ArtifactUrl"):
                raise InvalidRequestError("An adapter component needs Container.ArtifactUrl.")
        record = {
            "InferenceComponentName": name,
            "InferenceComponentArn": _arn("inference-component", name),
            "EndpointName": request["EndpointName"],
            "EndpointArn": endpoint["EndpointArn"],
            "VariantName": request.get("VariantName", VARIANT),
            "Specification": _described(specification),
            "InferenceComponentStatus": "Creating" if base else "InService",
            "CreationTime": now,
            "LastModifiedTime": now,
        }
        if base is None:
            count = request.get("RuntimeConfig", {}).get("CopyCount", 1)
            record["RuntimeConfig"] = {"DesiredCopyCount": count, "CurrentCopyCount": count}
        if not self._components.create(name, record):
            raise InvalidRequestError(
                "Cannot create already existing inference component"
                f' "{record["InferenceComponentArn"]}".'
            )
        if base:
            self._load_soon(name)
        return {"InferenceComponentArn": record["InferenceComponentArn"]}

    def describe_component(self, request: Record) -> Record:
        """DescribeInferenceComponent. Raises NotFoundError."""
        record = self._components.get(request["InferenceComponentName"])
        if record is None:
            arn = _arn("inference-component", request["InferenceComponentName"])
            raise NotFoundError(f'Could not find inference component "{arn}".')
        return record

    def list_components(self, request: Record) -> Record:
        """ListInferenceComponents, newest first; filters by endpoint, name and status."""
        found = [
            {member: record[member] for member in SUMMARY if member in record}
            for name, record in self._components.all().items()
            if request.get("NameContains", "") in name
            and request.get("EndpointNameEquals", record["EndpointName"]) == record["EndpointName"]
            and request.get("StatusEquals", record["InferenceComponentStatus"])
            == record["InferenceComponentStatus"]
        ]
        found.sort(key=lambda record: -record["CreationTime"])
        return {"InferenceComponents": found}

    def delete_component(self, request: Record) -> Record:
        """DeleteInferenceComponent; the model server forgets the adapter."""
        name = self.describe_component(request)["InferenceComponentName"]
        self._components.delete(name)
        try:
            self._models.post("/v1/unload_lora_adapter", json={"lora_name": name})
        except httpx.HTTPError:
            traceback.print_exc()
        return {}

    def resume(self) -> None:
        """Loads the adapters again that were served, or being loaded, before a restart."""
        self.copies.resume()
        for name, record in self._components.all().items():
            if _artifact(record) and record["InferenceComponentStatus"] in (
                "Creating",
                "InService",
            ):
                self._load_soon(name)

    def invoke(self, endpoint: str, component: str | None, body: bytes) -> tuple[bytes, str]:
        """InvokeEndpoint with an OpenAI chat completion: the model's answer and its content type.

        Raises RuntimeRefusalError, ModelNotReadyError, ModelAnswerError.
        """
        answer = self._answer(endpoint, component, body)
        try:
            content = answer.read()
        except httpx.HTTPError as error:
            raise _silent(error) from error
        return content, answer.headers.get("content-type", "application/json")

    def stream(
        self, endpoint: str, component: str | None, body: bytes
    ) -> tuple[Iterator[bytes], str]:
        """InvokeEndpointWithResponseStream: the same as messages, each when the model wrote it.

        Raises RuntimeRefusalError, ModelNotReadyError, ModelAnswerError.
        """
        answer = self._answer(endpoint, component, body)
        kind = answer.headers.get("content-type", "application/octet-stream")

        def messages() -> Iterator[bytes]:
            try:
                for part in answer.iter_raw():
                    yield eventstream.payload_part(part)
            except httpx.HTTPError as error:
                late = isinstance(error, httpx.TimeoutException)
                code = "ModelInvocationTimeExceeded" if late else "StreamBroken"
                yield eventstream.model_stream_error(type(error).__name__, code)
            finally:
                answer.close()

        return messages(), kind

    def _answer(self, endpoint: str, component: str | None, body: bytes) -> httpx.Response:
        """The model server's answer, its body still to be read."""
        record = self._invocable(endpoint, component)
        adapter = record["InferenceComponentName"] if _artifact(record) else None
        try:
            request = json.loads(body)
            request["model"] = adapter or self._base_model
        except (ValueError, TypeError) as error:
            raise ModelAnswerError(
                "Received client error (400) from primary: the body is not a JSON object.",
                OriginalStatusCode=400, OriginalMessage=str(error),
            ) from error  # fmt: skip
        answer = self._complete(request)
        if answer.status_code == httpx.codes.NOT_FOUND and adapter:
            answer.close()
            self._load(adapter)
            answer = self._complete(request)
        if answer.is_error:
            text = answer.read().decode(errors="replace")
            side = "client" if answer.is_client_error else "server"
            raise ModelAnswerError(
                f'Received {side} error ({answer.status_code}) from primary with message "{text}".',
                OriginalStatusCode=answer.status_code, OriginalMessage=text,
            )  # fmt: skip
        return answer

    def _complete(self, request: Record) -> httpx.Response:
        asked = self._models.build_request("POST", "/v1/chat/completions", json=request)
        try:
            return self._models.send(asked, stream=True)
        except httpx.HTTPError as error:
            raise _silent(error) from error

    def _invocable(self, endpoint: str, component: str | None) -> Record:
        if self._endpoints.get(endpoint) is None:
            raise RuntimeRefusalError(f"Endpoint {endpoint} of account {ACCOUNT} not found.")
        if component is None:
            raise RuntimeRefusalError(
                "Inference Component Name header is required for endpoints to which you plan to"
                " deploy inference components. Please include Inference Component Name header or"
                " consider using SageMaker models."
            )
        record = self._components.get(component)
        if record is None or record["EndpointName"] != endpoint:
            raise RuntimeRefusalError(
                f"Inference Component {component} of account {ACCOUNT} not found."
            )
        if record["InferenceComponentStatus"] != "InService":
            raise ModelNotReadyError(f"Inference component {component} is not in service yet.")
        self.copies.require(record)
        return record

    def _load_soon(self, name: str) -> None:
        threading.Thread(target=self._bring, args=(name,), daemon=True).start()

    def _bring(self, name: str) -> None:
        """Loads an adapter and records what came of it."""
        changes: Record = {"InferenceComponentStatus": "InService"}
        try:
            self._load(name)
        except (LoadError, ClientError, BotoCoreError, OSError) as error:
            changes = {"InferenceComponentStatus": "Failed", "FailureReason": str(error)[:1024]}
        except Exception as error:
            traceback.print_exc()
            changes = {"InferenceComponentStatus": "Failed", "FailureReason": repr(error)[:1024]}
        changes["LastModifiedTime"] = time.time()
        self._components.change(name, lambda record: record.update(changes))

    def _load(self, name: str) -> None:
        """Downloads an adapter and hands it to the model server. Raises LoadError."""
        record = self._components.get(name)
        artifact = _artifact(record) if record else None
        if artifact is None:
            return
        folder = self._folder / "adapters" / name
        if artifact.endswith("/"):
            self._storage.download(artifact, folder)
        else:
            archive = self._folder / f"{name}.tar.gz"
            self._storage.fetch_uri(artifact, archive)
            unpack(archive, folder)
        configs = sorted(folder.rglob("adapter_config.json"))
        if not configs:
            raise LoadError(f"{artifact} holds no adapter_config.json: it is no LoRA adapter.")
        request = {"lora_name": name, "lora_path": str(configs[0].parent)}
        deadline = time.monotonic() + LOAD_SECONDS
        while True:
            try:
                answer = self._models.post("/v1/load_lora_adapter", json=request)
                break
            except httpx.ConnectError as error:
                if time.monotonic() > deadline:
                    raise LoadError("The model server does not answer.") from error
                time.sleep(0.5)
        if answer.is_error and "already" not in answer.text:
            raise LoadError(f"The model server refused {artifact}: {answer.text}")


def _silent(error: httpx.HTTPError) -> ModelAnswerError:
    return ModelAnswerError(
        f'Received server error (0) from primary with message "{error}".',
        OriginalStatusCode=500, OriginalMessage=str(error),
    )  # fmt: skip


def _artifact(record: Record) -> str | None:
    """The URL of an adapter component's weights; None for a base component."""
    specification = record["Specification"]
    if not specification.get("BaseInferenceComponentName"):
        return None
    return str(specification["Container"]["ArtifactUrl"])


def _described(specification: Record) -> Record:
    """A specification as DescribeInferenceComponent words it."""
    described: dict[str, Any] = dict(specification)
    container = described.pop("Container", None)
    if container is not None:
        image = container.get("Image")
        deployed = {"DeployedImage": {"SpecifiedImage": image}} if image else {}
        described["Container"] = {
            **{name: value for name, value in container.items() if name != "Image"},
            **deployed,
        }
    return described


def _arn(kind: str, name: str) -> str:
    return f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:{kind}/{name}"
