"""The few AWS calls of the chat path, signed and sent with the standard library alone.

A boto3 client costs 124 ms of a cold start, http.client with ssl 16 (measured, November 2026), and
a person waits for it. The rest of Dropforge uses boto3.

Region, credentials and endpoints come from the environment variables that the AWS SDKs read too,
AWS_ENDPOINT_URL_<SERVICE> and AWS_ENDPOINT_URL among them, so an emulator is named the usual way.

    BackendError
    └── AwsError                  the service answered with an error
        ├── AwsThrottledError     too many requests; later it will work
        ├── ConditionFailedError  a conditional write met another state
        └── ModelError            SageMaker's container answered with an error

A call can also raise the HttpError of dropforge.backends.connection.
"""

from __future__ import annotations

import base64
import os
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlsplit

import msgspec

from dropforge.backends.attributes import Item, from_item, to_item
from dropforge.backends.connection import Connection, HttpAnswer, HttpStream
from dropforge.backends.sigv4 import AwsSettingsError, Credentials, sign
from dropforge.errors import BackendError
from dropforge.untrusted import UnreadableError, read_json

_THROTTLES = frozenset(
    {
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "ThrottlingException",
        "TooManyRequestsException",
    }
)


class AwsError(BackendError):
    """An error answer. `name` is AWS's, as `ResourceNotFoundException`; `status` is HTTP's.

    AWS's own message is left out: a model's error can quote what a customer wrote.
    """

    code = "AWS"

    def __init__(self, operation: str, name: str, status: int) -> None:
        super().__init__(f"{operation} answered {status} {name}.")
        self.name = name
        self.status = status


class AwsThrottledError(AwsError):
    code = "AWS_THROTTLED"


class ConditionFailedError(AwsError):
    code = "CONDITION_FAILED"


class ModelError(AwsError):
    """What SageMaker's container answered instead: its HTTP status and body, as far as told.

    `said` can quote what a customer wrote; it belongs in no log.
    """

    code = "MODEL"

    def __init__(self, operation: str, status: int, original: int, said: str) -> None:
        super().__init__(operation, "ModelError", status)
        self.original = original
        self.said = said


class Service(msgspec.Struct, frozen=True):
    """How one AWS service is named: in variables, in host names and in signatures."""

    variable: str
    host: str
    signing: str

    def endpoint(self, region: str) -> str:
        """The service's base URL, by the order of precedence that the AWS SDKs document."""
        if os.environ.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "").lower() != "true":
            for variable in (f"AWS_ENDPOINT_URL_{self.variable}", "AWS_ENDPOINT_URL"):
                if url := os.environ.get(variable):
                    return url.rstrip("/")
        suffix = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
        return f"https://{self.host}.{region}.{suffix}"


DYNAMODB = Service("DYNAMODB", "dynamodb", "dynamodb")
SECRETS_MANAGER = Service("SECRETS_MANAGER", "secretsmanager", "secretsmanager")
SAGEMAKER_RUNTIME = Service("SAGEMAKER_RUNTIME", "runtime.sagemaker", "sagemaker")
SQS = Service("SQS", "sqs", "sqs")


class AwsService:
    """One service at its endpoint, over one kept-open connection."""

    def __init__(self, service: Service) -> None:
        """Raises AwsSettingsError where the environment names no region, or no credentials."""
        region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
        if not region:
            raise AwsSettingsError("No AWS region is known.", hint="Set AWS_REGION.")
        self._service = service
        self._region = region
        self._url = service.endpoint(region)
        self._path = urlsplit(self._url).path
        self._connection = Connection(self._url)
        self._credentials = Credentials.from_environment()

    def call(
        self,
        operation: str,
        target: str,
        headers: Mapping[str, str],
        body: bytes,
        *,
        deadline: float,
        resend: bool,
    ) -> HttpAnswer:
        """Signs and POSTs; returns the answer if it is a 2xx.

        Args:
            operation: its name for people, in errors.
            target: path (and query) below the endpoint, percent-encoded.
            deadline: a point on time.monotonic().
            resend: whether it may arrive twice. Then it is tried again once after a 5xx, too.

        Raises:
            AwsError: any other status.
            HttpError: no whole answer in time.
        """
        for _ in range(2 if resend else 1):
            signed = self._signed(target, headers, body)
            answer = self._connection.request(
                "POST", self._path + target, body, signed, deadline=deadline, resend=resend
            )
            if answer.status < 500:
                break
        if answer.status // 100 == 2:
            return answer
        raise _error(operation, answer)

    def stream(
        self,
        operation: str,
        target: str,
        headers: Mapping[str, str],
        body: bytes,
        *,
        deadline: float,
    ) -> HttpStream:
        """As `call`, never sent twice; returns when the answer's head has come, if it is a 2xx."""
        signed = self._signed(target, headers, body)
        answer = self._connection.stream(
            "POST", self._path + target, body, signed, deadline=deadline
        )
        if answer.status // 100 == 2:
            return answer
        raise _error(operation, answer.whole())

    def _signed(self, target: str, headers: Mapping[str, str], body: bytes) -> dict[str, str]:
        return sign(
            "POST",
            self._url + target,
            headers,
            body,
            service=self._service.signing,
            region=self._region,
            credentials=self._credentials,
            at=time.time(),
        )

    def close(self) -> None:
        """Closes the connection; the next call opens another."""
        self._connection.close()

    def call_json(
        self,
        operation: str,
        target: str,
        version: str,
        payload: object,
        *,
        deadline: float,
        resend: bool = True,
    ) -> dict[str, Any]:
        """One operation of the AWS JSON protocol.

        Args:
            target: the X-Amz-Target header.
            version: of the protocol, "1.0" or "1.1".
            resend: as for `call`.
        """
        headers = {"Content-Type": f"application/x-amz-json-{version}", "X-Amz-Target": target}
        body = msgspec.json.encode(payload)
        answer = self.call(operation, "/", headers, body, deadline=deadline, resend=resend)
        try:
            return read_json(answer.body, dict[str, Any])
        except UnreadableError as error:
            raise AwsError(operation, "MalformedAnswer", answer.status) from error


def _error(operation: str, answer: HttpAnswer) -> AwsError:
    name = answer.header("x-amzn-ErrorType") or ""
    if not name:
        try:
            told = read_json(answer.body, dict[str, Any]).get("__type", "")
        except UnreadableError:
            told = None
        name = told if isinstance(told, str) else "UnknownError"
    name = name.split("#")[-1].split(":")[0]  # com.amazonaws.x#Name and Name:http://… both occur
    if name == "ConditionalCheckFailedException":
        return ConditionFailedError(operation, name, answer.status)
    if name == "ModelError":
        return _model_error(operation, answer)
    kind = AwsThrottledError if name in _THROTTLES or answer.status == 429 else AwsError
    return kind(operation, name, answer.status)


class _Original(msgspec.Struct):
    """The members of a ModelError: API_runtime_InvokeEndpoint's errors."""

    OriginalStatusCode: int = 0
    OriginalMessage: str = ""


def _model_error(operation: str, answer: HttpAnswer) -> ModelError:
    try:
        told = read_json(answer.body, _Original)
    except UnreadableError:
        told = _Original()
    return ModelError(operation, answer.status, told.OriginalStatusCode, told.OriginalMessage)


class Table:
    """A DynamoDB table with the keys `pk` and `sk`, both strings.

    Items are plain Python: see dropforge.backends.attributes.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._service = AwsService(DYNAMODB)

    def get(self, pk: str, sk: str, *, deadline: float, consistent: bool = False) -> Item | None:
        """The item, or None. One that was just written may be missed unless `consistent`."""
        answer = self._call(
            "GetItem",
            {"Key": {"pk": {"S": pk}, "sk": {"S": sk}}, "ConsistentRead": consistent},
            deadline,
        )
        return from_item(answer["Item"]) if answer.get("Item") else None

    def put(
        self,
        item: Item,
        *,
        condition: str,
        values: Item | None = None,
        deadline: float,
    ) -> None:
        """Writes the item if the condition holds for what is there.

        The request may arrive twice, so the condition has to hold for the item itself too.

        Args:
            condition: a DynamoDB condition expression.
            values: what the `:names` in it stand for.

        Raises:
            ConditionFailedError: it does not hold.
        """
        request: Item = {"Item": to_item(item), "ConditionExpression": condition}
        if values:
            request["ExpressionAttributeValues"] = to_item(values)
        self._call("PutItem", request, deadline)

    def add(self, pk: str, sk: str, numbers: Mapping[str, float], *, deadline: float) -> None:
        """Adds to attributes of an item; what is not there yet counts as 0.

        Never sent twice, so it is added once at most: a lost answer leaves unknown whether it was.
        """
        names = {f"#{place}": name for place, name in enumerate(numbers)}
        values = {f":{place}": number for place, number in enumerate(numbers.values())}
        pairs = ", ".join(f"#{place} :{place}" for place in range(len(numbers)))
        request: Item = {
            "Key": {"pk": {"S": pk}, "sk": {"S": sk}},
            "UpdateExpression": f"ADD {pairs}",
            "ExpressionAttributeNames": names,
            "ExpressionAttributeValues": to_item(values),
        }
        self._call("UpdateItem", request, deadline, resend=False)

    def update(
        self,
        pk: str,
        sk: str,
        change: str,
        values: Mapping[str, object],
        *,
        condition: str = "",
        deadline: float,
    ) -> None:
        """Changes an item by an update expression, if the condition holds for what is there.

        Never sent twice: a lost answer leaves unknown whether it was done.

        Args:
            values: what the `:names` in both expressions stand for.

        Raises:
            ConditionFailedError: it does not hold.
        """
        request: Item = {
            "Key": {"pk": {"S": pk}, "sk": {"S": sk}},
            "UpdateExpression": change,
            "ExpressionAttributeValues": to_item(values),
        }
        if condition:
            request["ConditionExpression"] = condition
        self._call("UpdateItem", request, deadline, resend=False)

    def query(self, pk: str, prefix: str, *, deadline: float) -> list[Item]:
        """All items of `pk` whose `sk` begins with `prefix`, in the order of `sk`."""
        request: Item = {
            "KeyConditionExpression": "pk = :pk AND begins_with(sk, :prefix)",
            "ExpressionAttributeValues": to_item({":pk": pk, ":prefix": prefix}),
        }
        items: list[Item] = []
        while True:
            page = self._call("Query", request, deadline)
            items += map(from_item, page.get("Items", ()))
            if not page.get("LastEvaluatedKey"):
                return items
            request["ExclusiveStartKey"] = page["LastEvaluatedKey"]

    def _call(self, operation: str, request: Item, deadline: float, *, resend: bool = True) -> Item:
        return self._service.call_json(
            operation,
            f"DynamoDB_20120810.{operation}",
            "1.0",
            {"TableName": self._name, **request},
            deadline=deadline,
            resend=resend,
        )


class Queue:
    """An SQS queue, by its URL."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._service = AwsService(SQS)

    def send(self, body: str, *, deadline: float) -> None:
        """Puts one message in. Never sent twice: two messages of one text are two to SQS."""
        self._service.call_json(
            "SendMessage",
            "AmazonSQS.SendMessage",
            "1.0",
            {"QueueUrl": self._url, "MessageBody": body},
            deadline=deadline,
            resend=False,
        )


class Secrets:
    """Secrets Manager."""

    def __init__(self) -> None:
        self._service = AwsService(SECRETS_MANAGER)

    def get(self, arn: str, *, deadline: float) -> str:
        """The secret's current text. Read rarely, so the connection is not kept."""
        answer = self._service.call_json(
            "GetSecretValue",
            "secretsmanager.GetSecretValue",
            "1.1",
            {"SecretId": arn},
            deadline=deadline,
        )
        self._service.close()
        if "SecretString" in answer:
            return str(answer["SecretString"])
        return base64.b64decode(answer["SecretBinary"]).decode()


class SageMakerRuntime:
    """A SageMaker endpoint that holds inference components."""

    def __init__(self, endpoint: str) -> None:
        self._target = f"/endpoints/{quote(endpoint, safe='')}/invocations"
        self._service = AwsService(SAGEMAKER_RUNTIME)

    def invoke(self, component: str, body: bytes, *, deadline: float) -> bytes:
        """What the component answers to a JSON body. Never sent twice: an answer costs money.

        Raises:
            ModelError: the component's container answered with an error.
            AwsError, HttpError: as `AwsService.call`.
        """
        headers = _invocation(component, "Accept")
        answer = self._service.call(
            "InvokeEndpoint", self._target, headers, body, deadline=deadline, resend=False
        )
        return answer.body

    def stream(self, component: str, body: bytes, *, deadline: float) -> HttpStream:
        """The same as it comes, in the frames of dropforge.backends.eventstream."""
        return self._service.stream(
            "InvokeEndpointWithResponseStream",
            f"{self._target}-response-stream",
            _invocation(component, "X-Amzn-SageMaker-Accept"),
            body,
            deadline=deadline,
        )


def _invocation(component: str, accept: str) -> dict[str, str]:
    return {
        "Content-Type": "application/json",
        accept: "application/json",
        "X-Amzn-SageMaker-Inference-Component": component,
    }
