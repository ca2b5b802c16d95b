"""AWS in memory: what boto3's clients of five services are asked never leaves the process.

boto3 works as ever, from the check of parameters to the classes of errors; only the request is
answered here. A parameter or an operation that is not known is an error. Clients of any other
service, and those of another endpoint, go where they always go.
"""

from __future__ import annotations

import base64
import hashlib
import io
import itertools
import os
import pickle
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, NamedTuple
from unittest.mock import patch
from urllib.parse import quote

import boto3
from botocore import xform_name
from botocore.client import BaseClient
from botocore.exceptions import ParamValidationError
from botocore.response import StreamingBody
from botocore.validate import ParamValidator

from tests.support.memory_tables import Params, RefusedError, Tables

ACCOUNT = "123456789012"
_PLACE = f"us-east-1:{ACCOUNT}"
Operation = Callable[[Params], Params]


class _Version(NamedTuple):
    """One version of an object; without data it marks that the object was deleted."""

    id: str
    data: bytes | None
    about: dict[str, Any]


class Buckets:
    """S3: whole objects in buckets that keep every version."""

    _ids = itertools.count(1)  # no two versions of a process are called the same

    def __init__(self) -> None:
        self._buckets: dict[str, dict[str, list[_Version]]] = {}

    def of(self, name: str) -> dict[str, dict[str, list[_Version]]]:
        return {name: self._buckets[name]}

    def take(self, buckets: dict[str, dict[str, list[_Version]]]) -> None:
        self._buckets |= buckets

    def _keys(self, params: Params) -> dict[str, list[_Version]]:
        try:
            return self._buckets[params["Bucket"]]
        except KeyError:
            raise RefusedError("NoSuchBucket", "The specified bucket does not exist") from None

    def create_bucket(self, params: Params) -> Params:
        self._buckets.setdefault(params["Bucket"], {})
        return {}

    def put_bucket_versioning(self, params: Params) -> Params:
        self._keys(params)
        if params["VersioningConfiguration"] != {"Status": "Enabled"}:
            raise NotImplementedError("a bucket that forgets its versions")
        return {}

    def put_object(self, params: Params) -> Params:
        versions = self._keys(params).setdefault(params["Key"], [])
        if params.get("IfNoneMatch") and versions and versions[-1].data is not None:
            raise RefusedError("PreconditionFailed", "A precondition you specified did not hold")
        body = params.get("Body", b"")
        data = body if isinstance(body, bytes | bytearray) else body.read()
        if params.get("ChecksumAlgorithm", "CRC32") != "CRC32":
            raise NotImplementedError(f"a checksum by {params['ChecksumAlgorithm']}")
        checksum = base64.b64encode(zlib.crc32(data).to_bytes(4, "big")).decode()
        about = {
            "ContentType": params.get("ContentType", "binary/octet-stream"),
            "ContentLength": len(data),
            "ETag": f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"',
            "Metadata": dict(params.get("Metadata", {})),
            "LastModified": datetime.now(UTC),
            "VersionId": f"v{next(self._ids)}",
            "ChecksumCRC32": checksum,
        }
        versions.append(_Version(about["VersionId"], bytes(data), about))
        return {name: about[name] for name in ("ETag", "VersionId", "ChecksumCRC32")}

    def _version(self, params: Params, missing: str) -> _Version:
        versions = self._keys(params).get(params["Key"], [])
        wanted = params.get("VersionId")
        found = [v for v in versions if v.id == wanted] if wanted else versions[-1:]
        if not found or found[0].data is None:
            raise RefusedError("NoSuchVersion" if wanted and missing != "404" else missing)
        return found[0]

    def get_object(self, params: Params) -> Params:
        version = self._version(params, "NoSuchKey")
        data = version.data or b""
        body = StreamingBody(io.BytesIO(data), len(data))
        return {**_shown(version, params), "Body": body}

    def head_object(self, params: Params) -> Params:
        return _shown(self._version(params, "404"), params)

    def delete_object(self, params: Params) -> Params:
        keys, key = self._keys(params), params["Key"]
        if wanted := params.get("VersionId"):
            keys[key] = [v for v in keys.get(key, []) if v.id != wanted]
            return {"VersionId": wanted}
        marker = f"v{next(self._ids)}"
        keys.setdefault(key, []).append(_Version(marker, None, {}))
        return {"DeleteMarker": True, "VersionId": marker}

    def list_objects_v2(self, params: Params) -> Params:
        begin = params.get("Prefix", "")
        after = params.get("ContinuationToken", "")
        present = [
            (key, versions[-1].about)
            for key, versions in sorted(self._keys(params).items())
            if key.startswith(begin) and key > after and versions and versions[-1].about
        ]
        page = present[: params.get("MaxKeys", 1000)]
        rows = [
            {"Key": _name(key, params), "Size": about["ContentLength"], "ETag": about["ETag"]}
            for key, about in page
        ]
        more = len(page) < len(present)
        answer = {"KeyCount": len(rows), "IsTruncated": more, **_encoding(params)}
        if more:
            answer["NextContinuationToken"] = page[-1][0]
        return {**answer, **({"Contents": rows} if rows else {})}

    def list_object_versions(self, params: Params) -> Params:
        rows: dict[str, list[dict[str, Any]]] = {"Versions": [], "DeleteMarkers": []}
        for key, versions in sorted(self._keys(params).items()):
            for version in reversed(versions if key.startswith(params.get("Prefix", "")) else []):
                kind = "DeleteMarkers" if version.data is None else "Versions"
                latest = version is versions[-1]
                row = {"Key": _name(key, params), "VersionId": version.id, "IsLatest": latest}
                rows[kind].append(row)
        found = {kind: listed for kind, listed in rows.items() if listed}
        return {"IsTruncated": False, **_encoding(params), **found}


def _shown(version: _Version, params: Params) -> dict[str, Any]:
    """An object's headers; its checksum only for those who ask."""
    shown = dict(version.about)
    checksum = shown.pop("ChecksumCRC32")
    if params.get("ChecksumMode") == "ENABLED":
        shown["ChecksumCRC32"] = checksum
    return shown


def _encoding(params: Params) -> dict[str, Any]:
    return {name: params[name] for name in params if name == "EncodingType"}


def _name(key: str, params: Params) -> str:
    """boto3 asks for names as in URLs, and decodes them."""
    return quote(key) if _encoding(params) else key


class Secrets:
    def __init__(self) -> None:
        self._secrets: dict[str, str] = {}

    def _arn(self, params: Params) -> str:
        wanted = params["SecretId"]
        arn = wanted if wanted.startswith("arn:") else _secret_arn(wanted)
        if arn not in self._secrets:
            message = "Secrets Manager can't find the specified secret."
            raise RefusedError("ResourceNotFoundException", message)
        return str(arn)

    def create_secret(self, params: Params) -> Params:
        arn = _secret_arn(params["Name"])
        if arn in self._secrets:
            raise RefusedError("ResourceExistsException", "the secret already exists.")
        self._secrets[arn] = params["SecretString"]
        return {"ARN": arn, "Name": params["Name"]}

    def put_secret_value(self, params: Params) -> Params:
        arn = self._arn(params)
        self._secrets[arn] = params["SecretString"]
        return {"ARN": arn}

    def get_secret_value(self, params: Params) -> Params:
        arn = self._arn(params)
        return {"ARN": arn, "SecretString": self._secrets[arn]}

    def describe_secret(self, params: Params) -> Params:
        return {"ARN": self._arn(params)}


def _secret_arn(name: str) -> str:
    suffix = hashlib.sha256(name.encode()).hexdigest()[:6]
    return f"arn:aws:secretsmanager:{_PLACE}:secret:{name}-{suffix}"


class Parameters:
    def __init__(self) -> None:
        self._values: dict[str, str] = {}

    def put_parameter(self, params: Params) -> Params:
        if not params.get("Overwrite") and params["Name"] in self._values:
            raise RefusedError("ParameterAlreadyExists", "The parameter already exists.")
        self._values[params["Name"]] = params["Value"]
        return {}

    def get_parameter(self, params: Params) -> Params:
        if params["Name"] not in self._values:
            raise RefusedError("ParameterNotFound", f"Parameter {params['Name']} not found.")
        return {"Parameter": {"Name": params["Name"], "Value": self._values[params["Name"]]}}

    def delete_parameter(self, params: Params) -> Params:
        self.get_parameter(params)
        del self._values[params["Name"]]
        return {}


class StateMachines:
    """Step Functions that take executions and never begin with them."""

    def __init__(self) -> None:
        self._machines: dict[str, dict[str, dict[str, Any]]] = {}

    def of(self, name: str) -> dict[str, dict[str, dict[str, Any]]]:
        return {_machine_arn(name): self._machines[_machine_arn(name)]}

    def take(self, machines: dict[str, dict[str, dict[str, Any]]]) -> None:
        self._machines |= machines

    def create_state_machine(self, params: Params) -> Params:
        arn = _machine_arn(params["name"])
        self._machines.setdefault(arn, {})
        return {"stateMachineArn": arn}

    def _executions(self, params: Params) -> dict[str, dict[str, Any]]:
        try:
            return self._machines[params["stateMachineArn"]]
        except KeyError:
            raise RefusedError("StateMachineDoesNotExist", "There is no such machine") from None

    def start_execution(self, params: Params) -> Params:
        known, name = self._executions(params), params["name"]
        arn = f"{params['stateMachineArn']}:{name}".replace(":stateMachine:", ":execution:")
        begun = {
            "executionArn": arn,
            "name": name,
            "startDate": datetime.now(UTC),
            "status": "RUNNING",
            "input": params.get("input", "{}"),
        }
        before = known.setdefault(arn, begun)
        if before["input"] != begun["input"]:
            raise RefusedError("ExecutionAlreadyExists", "Execution already exists")
        return {name: before[name] for name in ("executionArn", "startDate")}

    def list_executions(self, params: Params) -> Params:
        listed = reversed(self._executions(params).values())
        return {"executions": [{k: v for k, v in e.items() if k != "input"} for e in listed]}

    def describe_execution(self, params: Params) -> Params:
        for known in self._machines.values():
            if params["executionArn"] in known:
                return dict(known[params["executionArn"]])
        raise RefusedError("ExecutionDoesNotExist", "Execution does not exist")


def _machine_arn(name: str) -> str:
    return f"arn:aws:states:{_PLACE}:stateMachine:{name}"


class _Watched(Mapping[str, Any]):
    """An operation's parameters, which notes the ones it looked at."""

    def __init__(self, params: Params) -> None:
        self._params, self.read = params, set[str]()

    def __getitem__(self, name: str) -> Any:
        self.read.add(name)
        return self._params[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._params)

    def __len__(self) -> int:
        return len(self._params)


_WITHOUT_EFFECT = {
    "BillingMode",  # a table
    "ClientRequestToken",  # botocore makes one up for each request
    "ChecksumType",  # an object in one part: its checksum is always of the whole
    "ConsistentRead",  # every read is
    "Description",
    "Type",  # a parameter
    "definition",  # a state machine
    "roleArn",
}


class MemoryAws:
    """The services by their names in boto3; an operation is the method of its name."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._tables, self._buckets, self._machines = Tables(), Buckets(), StateMachines()
        self._services: dict[str, object] = {
            "dynamodb": self._tables,
            "s3": self._buckets,
            "secretsmanager": Secrets(),
            "ssm": Parameters(),
            "stepfunctions": self._machines,
        }

    def saved(self, name: str) -> bytes:
        """What the table, the bucket and the state machine of that name hold, for `restore`."""
        with self._lock:
            held = self._tables.of(name), self._buckets.of(name), self._machines.of(name)
            return pickle.dumps(held)

    def restore(self, saved: bytes) -> None:
        """Let them hold that and nothing else."""
        tables, buckets, machines = pickle.loads(saved)  # noqa: S301
        with self._lock:
            self._tables.take(tables)
            self._buckets.take(buckets)
            self._machines.take(machines)

    def holds(self, client: BaseClient) -> bool:
        at_home = client.meta.endpoint_url.endswith(".amazonaws.com")
        return at_home and client.meta.service_model.service_name in self._services

    def answer(self, service: str, operation: str, params: Params) -> tuple[int, Params]:
        """Status and answer, as botocore would have parsed them; atomic."""
        known: Operation | None = getattr(self._services[service], xform_name(operation), None)
        if known is None:
            raise NotImplementedError(f"{operation} of {service}")
        watched = _Watched(params)
        try:
            with self._lock:
                found = known(watched)
        except RefusedError as error:
            status = {"404": 404, "PreconditionFailed": 412}.get(error.code, 400)
            told = {"Code": error.code, "Message": str(error)}
            return status, {"Error": told, **_about(status), **error.more}
        if unread := params.keys() - watched.read - _WITHOUT_EFFECT:
            raise NotImplementedError(f"{sorted(unread)} of {operation}")
        return 200, {**found, **_about(200)}


def _about(status: int) -> dict[str, Any]:
    return {"ResponseMetadata": {"HTTPStatusCode": status, "HTTPHeaders": {}, "RetryAttempts": 0}}


_validator = ParamValidator()
_Client: Any = BaseClient  # with what its types leave out


@contextmanager
def memory_aws() -> Iterator[MemoryAws]:
    """AWS in memory for every client of boto3, those made before it too; all is gone at the end."""
    memory = MemoryAws()
    endpoint, request, send = (
        _Client._resolve_endpoint_ruleset,
        _Client._convert_to_request_dict,
        _Client._make_request,
    )

    def resolve(self: BaseClient, *arguments: Any, **named: Any) -> Any:
        if memory.holds(self):
            return self.meta.endpoint_url, {}, {}
        return endpoint(self, *arguments, **named)

    def convert(
        self: BaseClient, api_params: Any, operation_model: Any, *rest: Any, **named: Any
    ) -> Any:
        if not memory.holds(self):
            return request(self, api_params, operation_model, *rest, **named)
        if operation_model.input_shape:
            report = _validator.validate(api_params, operation_model.input_shape)
            if report.has_errors():
                raise ParamValidationError(report=report.generate_report())
        context = named["context"]
        sent = {"context": context, "url": self.meta.endpoint_url, "headers": {}, "body": b""}
        return {**sent, "asked": api_params}

    def make(self: BaseClient, operation_model: Any, request_dict: Any, context: Any) -> Any:
        if not memory.holds(self):
            return send(self, operation_model, request_dict, context)
        service = operation_model.service_model.service_name
        status, parsed = memory.answer(service, operation_model.name, request_dict["asked"])
        return SimpleNamespace(status_code=status), parsed

    with (
        patch.object(BaseClient, "_resolve_endpoint_ruleset", resolve),
        patch.object(BaseClient, "_convert_to_request_dict", convert),
        patch.object(BaseClient, "_make_request", make),
        patch.object(boto3, "client", _reused(boto3.client)),
        patch.object(boto3, "resource", _reused(boto3.resource)),
    ):
        yield memory


_made: dict[tuple[Any, ...], Any] = {}
_REUSED = {"dynamodb", "s3", "secretsmanager", "sns", "sqs", "ssm", "stepfunctions"}


def _reused(make: Callable[..., Any]) -> Callable[..., Any]:
    """Making a client takes longer than most tests; one without options is made once."""

    def made(service: str, **options: Any) -> Any:
        if options or service not in _REUSED:
            return make(service, **options)
        settings = sorted((k, v) for k, v in os.environ.items() if k.startswith("AWS_"))
        key = (make.__name__, service, *settings)
        if key not in _made:
            _made[key] = make(service)
        return _made[key]

    return made
