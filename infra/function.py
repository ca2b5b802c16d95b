"""A Lambda function as each of Dropforge's is: named, logged, traced, with its own role."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import aws_cdk as cdk
import jsii
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from infra.asset import Asset, Target, bundle, digest
from infra.config import ROOT, Settings
from infra.data_stack import DataStack
from infra.permissions import Grant, acknowledge, uses_key

TRACING = Grant(
    ("xray:PutTraceSegments", "xray:PutTelemetryRecords"),
    ("*",),
    reason="X-Ray's write actions have no resource type (service authorization reference).",
)
RUNTIME = (
    "The Python version is the context value `python`: wheels and byte code are built for it, and"
    " it moves on when every locked package has wheels for the next."
)
RETENTION = {
    1: logs.RetentionDays.ONE_DAY,
    3: logs.RetentionDays.THREE_DAYS,
    5: logs.RetentionDays.FIVE_DAYS,
    7: logs.RetentionDays.ONE_WEEK,
    14: logs.RetentionDays.TWO_WEEKS,
    30: logs.RetentionDays.ONE_MONTH,
    60: logs.RetentionDays.TWO_MONTHS,
    90: logs.RetentionDays.THREE_MONTHS,
    120: logs.RetentionDays.FOUR_MONTHS,
    150: logs.RetentionDays.FIVE_MONTHS,
    180: logs.RetentionDays.SIX_MONTHS,
    365: logs.RetentionDays.ONE_YEAR,
    400: logs.RetentionDays.THIRTEEN_MONTHS,
    545: logs.RetentionDays.EIGHTEEN_MONTHS,
    731: logs.RetentionDays.TWO_YEARS,
    1096: logs.RetentionDays.THREE_YEARS,
    1827: logs.RetentionDays.FIVE_YEARS,
    3653: logs.RetentionDays.TEN_YEARS,
}


class Function(Construct):
    """One function of an asset.

    Args:
        name: the function is `dropforge-<name>`; its size is the setting of this name.
        handler: dotted path of the handler in the asset.
        grants: what its role may do beyond logging, tracing and reading its environment.
        environment: variables beyond those every function has.
        dead_letters: where events go that an asynchronous invocation could not deal with.
    """

    def __init__(
        self,
        scope: Construct,
        name: str,
        *,
        data: DataStack,
        settings: Settings,
        asset: Asset,
        handler: str,
        grants: Iterable[Grant],
        environment: Mapping[str, str] | None = None,
        dead_letters: sqs.IQueue | None = None,
    ) -> None:
        super().__init__(scope, name.capitalize())
        self.name = name
        own_logs = log_group(self, "Logs", f"/dropforge/{name}", data, settings)
        self.role = self._role(data, own_logs, grants)
        size = settings.functions.of(name)
        self.function = lambda_.Function(
            self,
            "Function",
            function_name=f"dropforge-{name}",
            runtime=lambda_.Runtime(f"python{settings.python}", lambda_.RuntimeFamily.PYTHON),
            architecture={
                "x86_64": lambda_.Architecture.X86_64,
                "arm64": lambda_.Architecture.ARM_64,
            }[settings.architecture],
            code=code(asset, Target.of(settings)),
            handler=handler,
            role=self.role,
            memory_size=size.memory_mb,
            timeout=cdk.Duration.seconds(size.timeout_s),
            ephemeral_storage_size=cdk.Size.mebibytes(size.storage_mb),
            log_group=own_logs,
            logging_format=lambda_.LoggingFormat.JSON,
            tracing=lambda_.Tracing.ACTIVE,
            dead_letter_queue=dead_letters,
            environment={
                "DROPFORGE_BUCKET": data.bucket_name,
                "DROPFORGE_TABLE": data.table_name,
                "LOG_LEVEL": "INFO",
                "POWERTOOLS_METRICS_NAMESPACE": "Dropforge",
                "POWERTOOLS_SERVICE_NAME": name,
                **(environment or {}),
            },
        )
        acknowledge(self.function, "L1", RUNTIME)

    def _role(self, data: DataStack, own_logs: logs.LogGroup, grants: Iterable[Grant]) -> iam.Role:
        role = iam.Role(self, "Role", assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"))
        writes_logs = Grant(
            ("logs:CreateLogStream", "logs:PutLogEvents"), (own_logs.log_group_arn,)
        )
        key = uses_key(data.key_arn, "s3", "dynamodb", "secretsmanager", "sqs")
        for grant in (writes_logs, TRACING, key, *grants):
            grant.to(role)
        return role


def log_group(
    scope: Construct, id_: str, name: str, data: DataStack, settings: Settings
) -> logs.LogGroup:
    """An encrypted log group that forgets after the retention of the settings."""
    return logs.LogGroup(
        scope,
        id_,
        log_group_name=name,
        retention=RETENTION[settings.log_retention_days],
        encryption_key=kms.Key.from_key_arn(scope, f"{id_}Key", data.key_arn),
        removal_policy=cdk.RemovalPolicy.DESTROY,
    )


@cache
def _digest(asset: Asset, target: Target) -> str:
    """One hash a process: functions of an asset agree even while somebody edits its sources."""
    return digest(asset, target)


def code(asset: Asset, target: Target) -> lambda_.Code:
    """The asset's code; built only where its hash is not in the cloud assembly yet."""
    return lambda_.Code.from_asset(
        str(ROOT / "requirements"),
        asset_hash=_digest(asset, target),
        asset_hash_type=cdk.AssetHashType.CUSTOM,
        bundling=cdk.BundlingOptions(
            image=cdk.DockerImage.from_registry("not-used"), local=_Bundler(asset, target)
        ),
    )


@jsii.implements(cdk.ILocalBundling)
class _Bundler:
    def __init__(self, asset: Asset, target: Target) -> None:
        self._asset, self._target = asset, target

    def try_bundle(self, output_dir: str, *, image: object = None, **_: Any) -> bool:
        bundle(self._asset, self._target, Path(output_dir))
        return True
