"""The HTTP side: SageMaker's control plane (JSON 1.1) at `/`, its runtime at `/endpoints/…`."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from local.sagemaker import eventstream, requests, serverless
from local.sagemaker.endpoints import Endpoints
from local.sagemaker.errors import ServiceError
from local.sagemaker.packages import ModelPackages
from local.sagemaker.records import Record
from local.sagemaker.training import Training

JSON = "application/x-amz-json-1.1"
COMPONENT_HEADER = "X-Amzn-SageMaker-Inference-Component"
Operation = Callable[[Record], Record]


class Server:
    """Routes requests to training jobs, model packages and endpoints."""

    def __init__(self, training: Training, endpoints: Endpoints, packages: ModelPackages) -> None:
        self._training = training
        self._endpoints = endpoints
        self._operations: dict[str, Operation] = {
            "CreateTrainingJob": training.create,
            "DescribeTrainingJob": training.describe,
            "StopTrainingJob": training.stop,
            "ListTrainingJobs": training.list,
            "DescribeHubContent": serverless.describe_hub_content,
            "CreateModelPackageGroup": packages.create_group,
            "DescribeModelPackageGroup": packages.describe_group,
            "CreateModelPackage": packages.create,
            "DescribeModelPackage": packages.describe,
            "UpdateModelPackage": packages.update,
            "ListModelPackages": packages.listed,
            "CreateModel": endpoints.create_model,
            "DescribeModel": endpoints.describe_model,
            "CreateEndpoint": endpoints.create_endpoint,
            "DescribeEndpoint": endpoints.describe_endpoint,
            "CreateInferenceComponent": endpoints.create_component,
            "DescribeInferenceComponent": endpoints.describe_component,
            "ListInferenceComponents": endpoints.list_components,
            "DeleteInferenceComponent": endpoints.delete_component,
            "UpdateInferenceComponentRuntimeConfig": endpoints.copies.update,
        }

    def app(self) -> Starlette:
        """The ASGI application; jobs and adapters are resumed when it starts."""

        @asynccontextmanager
        async def lifespan(_: Starlette) -> AsyncIterator[None]:
            self._training.resume()
            self._endpoints.resume()
            yield
            self._training.close()

        routes = [
            Route("/", self.control, methods=["POST"]),
            Route("/endpoints/{endpoint}/invocations", self.invocation, methods=["POST"]),
            Route(
                "/endpoints/{endpoint}/invocations-response-stream", self.streamed, methods=["POST"]
            ),
            Route("/ping", lambda _: PlainTextResponse("ok"), methods=["GET"]),
        ]
        return Starlette(routes=routes, lifespan=lifespan)

    async def control(self, request: Request) -> Response:
        """One operation of the control plane, named by X-Amz-Target."""
        name = request.headers.get("x-amz-target", "").removeprefix("SageMaker.")
        operation = self._operations.get(name)
        if operation is None:
            known = ", ".join(sorted(self._operations))
            message = f"The SageMaker stand-in does not know {name!r}; it knows {known}."
            return _json(400, {"__type": "UnknownOperationException", "message": message})
        try:
            given = json.loads(await request.body() or b"{}")
            requests.validate(name, given)
            return _json(200, await run_in_threadpool(operation, given))
        except json.JSONDecodeError as error:
            return _json(400, {"__type": "SerializationException", "message": str(error)})
        except ServiceError as error:
            return _json(error.status, {"__type": error.code, "message": str(error)})

    async def invocation(self, request: Request) -> Response:
        """InvokeEndpoint."""
        component = request.headers.get(COMPONENT_HEADER)
        endpoint = request.path_params["endpoint"]
        try:
            body, kind = await run_in_threadpool(
                self._endpoints.invoke, endpoint, component, await request.body()
            )
        except ServiceError as error:
            return _refused(error)
        headers = {"x-Amzn-Invoked-Production-Variant": "AllTraffic"}
        return Response(body, media_type=kind, headers=headers)

    async def streamed(self, request: Request) -> Response:
        """InvokeEndpointWithResponseStream."""
        component = request.headers.get(COMPONENT_HEADER)
        endpoint = request.path_params["endpoint"]
        try:
            messages, kind = await run_in_threadpool(
                self._endpoints.stream, endpoint, component, await request.body()
            )
        except ServiceError as error:
            return _refused(error)
        headers = {
            "x-Amzn-Invoked-Production-Variant": "AllTraffic",
            "X-Amzn-SageMaker-Content-Type": kind,
        }
        media = eventstream.CONTENT_TYPE
        return StreamingResponse(messages, media_type=media, headers=headers)


def _refused(error: ServiceError) -> Response:
    headers = {"x-amzn-ErrorType": error.code, "x-amzn-RequestId": str(uuid.uuid4())}
    answer: dict[str, Any] = {"Message": str(error), **error.members}
    return JSONResponse(answer, error.status, headers)


def _json(status: int, body: Record) -> Response:
    headers = {"x-amzn-RequestId": str(uuid.uuid4())}
    return Response(json.dumps(body), status, headers, media_type=JSON)
