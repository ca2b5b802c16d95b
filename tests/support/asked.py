"""What functions ask of AWS while they run, as IAM is asked for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import pytest
from botocore.client import BaseClient
from botocore.exceptions import ClientError

HERE = "us-east-1:123456789012"
"""Region and account."""
ARNS = ("SecretId", "TopicArn", "executionArn", "stateMachineArn")
"""Parameters that name what a call is about."""
_OBJECTS = {
    "CompleteMultipartUpload": "PutObject",
    "CreateMultipartUpload": "PutObject",
    "DeleteObject": "DeleteObject",
    "GetObject": "GetObject",
    "HeadObject": "GetObject",
    "PutObject": "PutObject",
    "UploadPart": "PutObject",
}
"""Operation on an object -> its action (Amazon S3 user guide, "Required permissions")."""
_MISSING = {"404", "NoSuchKey", "NoSuchVersion"}
_TABLES = {"DeleteItem", "GetItem", "PutItem", "Query", "UpdateItem"}


class Call(NamedTuple):
    """`who` asks to do an IAM action on the resource of an ARN."""

    who: str
    action: str
    resource: str


class Recorder:
    """Writes down every call that botocore makes while `who` is set."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.who = ""
        self.calls: set[Call] = set()
        send = BaseClient._make_api_call  # type: ignore[attr-defined]

        def recorded(client: BaseClient, operation: str, parameters: dict[str, Any]) -> Any:
            service = client.meta.service_model.signing_name
            if self.who:
                self._add(checks(service, operation, parameters))
            try:
                return send(client, operation, parameters)
            except ClientError as error:
                if self.who and service == "s3" and error.response["Error"]["Code"] in _MISSING:
                    self._add([("s3:ListBucket", _bucket(parameters))])
                raise

        monkeypatch.setattr(BaseClient, "_make_api_call", recorded)

    def as_function(self, name: str, call: Callable[[], Any]) -> Any:
        """The call's result; what it asks of AWS is written down as this function's."""
        self.who = name
        try:
            return call()
        finally:
            self.who = ""

    def _add(self, found: list[tuple[str, str]] | Iterator[tuple[str, str]]) -> None:
        self.calls |= {Call(self.who, action, resource) for action, resource in found}


def checks(
    service: str, operation: str, parameters: Mapping[str, Any]
) -> Iterator[tuple[str, str]]:
    """(action, ARN) of all that an operation takes.

    S3 says that there is no such object to those alone who may list the bucket; that check is made
    where such an answer comes.

    Raises:
        NotImplementedError: nothing is known of the operation here.
    """
    if service == "s3" and operation in _OBJECTS:
        action = _OBJECTS[operation] + ("Version" if "VersionId" in parameters else "")
        yield f"s3:{action}", f"{_bucket(parameters)}/{parameters['Key']}"
    elif service == "s3" and operation in ("ListObjectsV2", "HeadBucket"):
        yield "s3:ListBucket", _bucket(parameters)
    elif service == "dynamodb" and operation == "TransactWriteItems":
        for item in parameters["TransactItems"]:
            for kind, about in item.items():
                action = "ConditionCheckItem" if kind == "ConditionCheck" else f"{kind}Item"
                yield f"dynamodb:{action}", _table(about)
    elif service == "dynamodb" and operation in _TABLES:
        yield f"dynamodb:{operation}", _table(parameters)
    elif service == "ssm" and operation == "GetParameter":
        yield "ssm:GetParameter", f"arn:aws:ssm:{HERE}:parameter{parameters['Name']}"
    elif named := [parameters[name] for name in ARNS if name in parameters]:
        yield f"{service}:{operation}", _arn(service, named[0])
    else:
        raise NotImplementedError(f"which action and resource does {service} {operation} take?")


def _bucket(parameters: Mapping[str, Any]) -> str:
    return f"arn:aws:s3:::{parameters['Bucket']}"


def _table(parameters: Mapping[str, Any]) -> str:
    return f"arn:aws:dynamodb:{HERE}:table/{parameters['TableName']}"


def _arn(service: str, name: str) -> str:
    """A secret can be called by its name, too; AWS adds six characters to it."""
    is_name = service == "secretsmanager" and not name.startswith("arn:")
    return f"arn:aws:secretsmanager:{HERE}:secret:{name}-AbCdEf" if is_name else name
