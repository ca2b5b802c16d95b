"""The synthesised CDK template, deployed to the emulator with plain boto3.

Reads the sources of the CDK application and writes a cloud assembly below the state folder, the
stacks into the emulator and, from their outputs, the file to source. An unchanged application is
neither synthesised nor deployed again.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from local import assembly, handover, template
from local.settings import REGION, Settings

if TYPE_CHECKING:
    from types_boto3_cloudformation import CloudFormationClient
    from types_boto3_cloudformation.type_defs import StackTypeDef
    from types_boto3_s3 import S3Client

SOURCES: Final = ("cdk.json", "infra", "dropforge", "lambdas", "requirements", "local/settings.py")
BOOTSTRAP_PARAMETER: Final = "/cdk-bootstrap/hnb659fds/version"
BOOTSTRAP_VERSION: Final = "30"
DEPLOYMENT_PARAMETER: Final = "/dropforge/deployment"
CAPABILITIES: Final = ("CAPABILITY_IAM", "CAPABILITY_NAMED_IAM", "CAPABILITY_AUTO_EXPAND")
STACK_SECONDS: Final = 120


class DeployError(RuntimeError):
    """Synthesis or a stack failed; the message holds the tool's own reason."""


@dataclass(frozen=True)
class Deployed:
    """What a deployment did: stacks by what became of them, what was stripped, seconds spent."""

    stacks: dict[str, str]
    stripped: Counter[str]
    synth_seconds: float
    deploy_seconds: float


def session() -> boto3.session.Session:
    """An AWS session with the emulator's credentials, whatever the environment says."""
    return boto3.session.Session("test", "test", region_name=REGION)


def client_config() -> Config:
    """Client settings for loopback: no proxy, no long waits."""
    return Config(proxies={}, connect_timeout=5, read_timeout=120, retries={"max_attempts": 2})


def fingerprint(settings: Settings) -> str:
    """A hash of everything that synthesis reads: the sources and the context."""
    digest = hashlib.sha256(json.dumps(settings.context, sort_keys=True).encode())
    for file in _source_files(settings.root):
        digest.update(f"\0{file.relative_to(settings.root)}\0".encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _source_files(root: Path) -> Iterator[Path]:
    for name in SOURCES:
        path = root / name
        found = [path] if path.is_file() else sorted(path.rglob("*"))
        yield from (file for file in found if file.is_file() and "__pycache__" not in file.parts)


def synthesise(settings: Settings) -> bool:
    """Writes the cloud assembly; False when the one that is there is still right.

    Raises DeployError with what the CDK application printed.
    """
    wanted, stamp = fingerprint(settings), settings.state / "synthesised"
    if stamp.exists() and stamp.read_text() == wanted:
        return False
    stamp.unlink(missing_ok=True)
    environment = {
        **os.environ,
        "CDK_OUTDIR": str(settings.assembly),
        "CDK_CONTEXT_JSON": json.dumps(settings.context),
        "JSII_SILENCE_WARNING_UNTESTED_NODE_VERSION": "1",
    }
    finished = subprocess.run(
        [sys.executable, "-m", "infra.app"],
        cwd=settings.root, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    if finished.returncode:
        raise DeployError(f"The template could not be synthesised:\n{finished.stderr.strip()}")
    stamp.parent.mkdir(parents=True, exist_ok=True)
    stamp.write_text(wanted)
    return True


def deploy(settings: Settings, say: Callable[[str], None] = lambda _: None) -> Deployed:
    """Synthesises where needed, and brings every stack to the synthesised template.

    Raises DeployError, AssemblyError.
    """
    started = time.monotonic()
    say("synthesising the template")
    synthesise(settings)
    synthesised = time.monotonic()
    aws = session()
    s3 = aws.client("s3", endpoint_url=settings.emulator_url, config=client_config())
    formation = aws.client(
        "cloudformation", endpoint_url=settings.emulator_url, config=client_config()
    )
    aws.client("ssm", endpoint_url=settings.emulator_url, config=client_config()).put_parameter(
        Name=BOOTSTRAP_PARAMETER, Value=BOOTSTRAP_VERSION, Type="String", Overwrite=True
    )
    became, kinds = {}, Counter[str]()
    stacks = assembly.read(settings.assembly)
    for stack in stacks:
        say(f"deploying {stack.name}")
        stripped = template.strip(stack.template)
        kinds += stripped.kinds
        for asset in stack.assets:
            upload(s3, asset, settings.state)
        became[stack.name] = bring(formation, s3, stack.name, stripped.template)
    replaced = prune(s3, [asset for stack in stacks for asset in stack.assets])
    assembly.prune(settings.assembly, stacks, replaced)
    return Deployed(became, kinds, synthesised - started, time.monotonic() - synthesised)


def upload(s3: S3Client, asset: assembly.FileAsset, state: Path) -> None:
    """Puts an asset into its bucket unless it is there; its key holds the hash of its content.

    For a folder, which is a function's code, goes an archive that names it (handover.py).
    """
    _ensure_bucket(s3, asset.bucket)
    try:
        s3.head_object(Bucket=asset.bucket, Key=asset.key)
    except ClientError:
        source = asset.source
        body = handover.archive(source, state) if asset.zipped else source.read_bytes()
        s3.put_object(Bucket=asset.bucket, Key=asset.key, Body=body)


def prune(s3: S3Client, assets: list[assembly.FileAsset]) -> set[str]:
    """Deletes the assets that earlier deployments left in the buckets; their keys."""
    used = {(asset.bucket, asset.key) for asset in assets}
    unused = set()
    for bucket in {asset.bucket for asset in assets}:
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket):
            for entry in page.get("Contents", []):
                if (bucket, entry["Key"]) not in used:
                    s3.delete_object(Bucket=bucket, Key=entry["Key"])
                    unused.add(entry["Key"])
    return unused


def _ensure_bucket(s3: S3Client, name: str) -> None:
    try:
        s3.head_bucket(Bucket=name)
    except ClientError:
        s3.create_bucket(Bucket=name)


def bring(
    formation: CloudFormationClient, s3: S3Client, name: str, wanted: template.Template
) -> str:
    """Creates or updates a stack and waits; `created`, `updated` or `unchanged`.

    A stack whose creation failed before is deleted first. Raises DeployError with the reasons that
    the failed resources give.
    """
    stack = _describe(formation, name)
    if stack is not None and _must_go(stack):
        formation.delete_stack(StackName=name)
        _settle(formation, name)
        stack = None
    if stack is not None and _current(formation, name) == wanted:
        return "unchanged"
    url = _put_template(formation, s3, name, wanted)
    change = formation.create_stack if stack is None else formation.update_stack
    try:
        change(StackName=name, TemplateURL=url, Capabilities=CAPABILITIES)
    except ClientError as error:
        raise DeployError(
            f"{name} was refused: {error.response['Error']['Message']}\nWhat only AWS can deploy"
            " belongs into UNSUPPORTED in local/template.py."
        ) from error
    status = _settle(formation, name)
    if status not in ("CREATE_COMPLETE", "UPDATE_COMPLETE"):
        raise DeployError(f"{name} ended as {status}:\n{_reasons(formation, name)}")
    return "created" if stack is None else "updated"


def _put_template(
    formation: CloudFormationClient, s3: S3Client, name: str, wanted: template.Template
) -> str:
    """Uploads a template (a request may carry 51,200 bytes only); its URL."""
    body = json.dumps(wanted, sort_keys=True).encode()
    bucket, key = "dropforge-local-templates", f"{name}-{hashlib.sha256(body).hexdigest()}.json"
    _ensure_bucket(s3, bucket)
    s3.put_object(Bucket=bucket, Key=key, Body=body)
    return f"{formation.meta.endpoint_url}/{bucket}/{key}"


def _describe(formation: CloudFormationClient, name: str) -> StackTypeDef | None:
    try:
        return formation.describe_stacks(StackName=name)["Stacks"][0]
    except ClientError as error:
        if error.response["Error"]["Code"] == "ValidationError":
            return None
        raise


def _must_go(stack: StackTypeDef) -> bool:
    return stack["StackStatus"] in ("ROLLBACK_COMPLETE", "CREATE_FAILED", "ROLLBACK_FAILED")


def _current(formation: CloudFormationClient, name: str) -> Any:
    body: Any = formation.get_template(StackName=name)["TemplateBody"]
    return json.loads(body) if isinstance(body, str) else body


def _settle(formation: CloudFormationClient, name: str) -> str:
    """Waits until nothing of a stack is in progress; its status, DELETE_COMPLETE if it is gone."""
    deadline = time.monotonic() + STACK_SECONDS
    while time.monotonic() < deadline:
        stack = _describe(formation, name)
        if stack is None:
            return "DELETE_COMPLETE"
        if not stack["StackStatus"].endswith("_IN_PROGRESS"):
            return stack["StackStatus"]
        time.sleep(0.1)
    raise DeployError(f"{name} was still in progress after {STACK_SECONDS} s.")


def _reasons(formation: CloudFormationClient, name: str) -> str:
    events = formation.describe_stack_events(StackName=name)["StackEvents"]
    failed = [event for event in events if event.get("ResourceStatus", "").endswith("FAILED")]
    return "\n".join(
        f"  {event.get('LogicalResourceId')} ({event.get('ResourceType')}):"
        f" {event.get('ResourceStatusReason', 'no reason given')}"
        for event in reversed(failed)
    )


def outputs(settings: Settings) -> dict[str, str]:
    """What the deployed stacks say about themselves: bucket, table, state machine, API."""
    ssm = session().client("ssm", endpoint_url=settings.emulator_url, config=client_config())
    value = ssm.get_parameter(Name=DEPLOYMENT_PARAMETER)["Parameter"]["Value"]
    found: dict[str, str] = json.loads(value)
    return found


def local_api_url(settings: Settings, api_url: str) -> str:
    """The emulator's address of an API whose address on AWS is `api_url`."""
    host, _, stage = api_url.removeprefix("https://").partition("/")
    return f"{settings.emulator_url}/_aws/execute-api/{host.partition('.')[0]}/{stage}".rstrip("/")
