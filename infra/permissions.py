"""IAM statements that name actions and resources, and acknowledged findings of cdk-nag.

Grants are written by hand: CDK's own ask for more (`kms:GenerateDataKey*`, whole buckets).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from constructs import IConstruct

from dropforge.serve.arms import Tally
from dropforge.serve.budget import SLOT_SECONDS, SLOTS, slot

T = TypeVar("T")
PREFIX = (
    "Keys under a prefix are data, unknown at deployment; the statement is limited to the prefix."
)


@dataclass(frozen=True)
class Grant:
    """Actions on resources. A wildcard in a resource needs a `reason` that a reviewer accepts."""

    actions: tuple[str, ...]
    resources: tuple[str, ...]
    reason: str = ""
    conditions: Mapping[str, Mapping[str, Any]] | None = None

    def to(self, role: iam.Role) -> None:
        """Add this to the role's policy."""
        role.add_to_policy(
            iam.PolicyStatement(
                actions=list(self.actions),
                resources=list(self.resources),
                conditions=self.conditions,
            )
        )
        acknowledge_wildcards(role, self.resources, self.reason)


def objects(bucket_arn: str, *prefixes: str, actions: Iterable[str]) -> Grant:
    """Actions on the objects whose keys match, as in `exports/*`."""
    return Grant(tuple(actions), tuple(f"{bucket_arn}/{prefix}" for prefix in prefixes), PREFIX)


def reads(bucket_arn: str, *prefixes: str) -> Grant:
    """Versions are read, too: a run pins the one that was dropped."""
    return objects(bucket_arn, *prefixes, actions=("s3:GetObject", "s3:GetObjectVersion"))


def writes(bucket_arn: str, *prefixes: str) -> Grant:
    return objects(bucket_arn, *prefixes, actions=("s3:PutObject",))


def deletes(bucket_arn: str, *prefixes: str) -> Grant:
    """A version that is deleted stays for as long as the bucket keeps superseded versions."""
    return objects(bucket_arn, *prefixes, actions=("s3:DeleteObject",))


def lists(bucket_arn: str) -> Grant:
    """Names of keys; without it S3 answers "forbidden" for an object that is not there."""
    return Grant(("s3:ListBucket",), (bucket_arn,))


def table(table_arn: str) -> Grant:
    actions = ("GetItem", "Query", "PutItem", "UpdateItem", "DeleteItem", "ConditionCheckItem")
    return Grant(tuple(f"dynamodb:{action}" for action in actions), (table_arn,))


def puts(table_arn: str, pk: str, *attributes: str) -> Grant:
    """Write items that have these attributes, beside their keys, and no other.

    Args:
        pk: a pattern for their partition key, as `project#*`.

    Source: as for `counts_traffic`.
    """
    return Grant(
        ("dynamodb:PutItem",),
        (table_arn,),
        conditions={
            "ForAllValues:StringLike": {"dynamodb:LeadingKeys": [pk]},
            "ForAllValues:StringEquals": {"dynamodb:Attributes": ["pk", "sk", *attributes]},
        },
    )


def counts_traffic(table_arn: str) -> Grant:
    """Change the numbers of a canary's arms, and no other attribute of any item.

    Conditions: DynamoDB developer guide, "Using IAM policy conditions for fine-grained access
    control". That section's examples limit what an update returns, too.
    """
    return Grant(
        ("dynamodb:UpdateItem",),
        (table_arn,),
        conditions={
            "ForAllValues:StringEquals": {
                "dynamodb:Attributes": ["pk", "sk", *Tally.__struct_fields__]
            },
            "StringEqualsIfExists": {"dynamodb:ReturnValues": ["NONE"]},
        },
    )


def spends(table_arn: str) -> Grant:
    """Hold and settle amounts of tokens' budgets, and change nothing else.

    Source: as for `counts_traffic`.
    """
    attributes = ["pk", "sk", "used_nano", *(slot(n * SLOT_SECONDS) for n in range(SLOTS))]
    return Grant(
        ("dynamodb:UpdateItem",),
        (table_arn,),
        conditions={
            "ForAllValues:StringLike": {"dynamodb:LeadingKeys": ["budget#*"]},
            "ForAllValues:StringEquals": {"dynamodb:Attributes": attributes},
            "StringEqualsIfExists": {"dynamodb:ReturnValues": ["NONE"]},
        },
    )


def uses_key(key_arn: str, *services: str) -> Grant:
    """Encryption and decryption with the key, only by way of the services named."""
    via = [f"{service}.{cdk.Aws.REGION}.amazonaws.com" for service in services]
    return Grant(
        ("kms:Decrypt", "kms:DescribeKey", "kms:Encrypt", "kms:GenerateDataKey"),
        (key_arn,),
        conditions={"StringEquals": {"kms:ViaService": via}},
    )


def from_account() -> dict[str, dict[str, str]]:
    """The condition that a service acts for this account, not as another's deputy."""
    return {"StringEquals": {"aws:SourceAccount": cdk.Aws.ACCOUNT_ID}}


def service_role(scope: IConstruct, name: str, service: str, description: str) -> iam.Role:
    """A role that one AWS service may assume, for this account only."""
    return iam.Role(
        scope,  # type: ignore[arg-type]
        name,
        assumed_by=iam.ServicePrincipal(f"{service}.amazonaws.com", conditions=from_account()),
        description=description,
    )


def acknowledge(scope: IConstruct, rule: str, reason: str) -> None:
    """Accept one AwsSolutions finding (its id without the pack's name) at and below `scope`."""
    entry = cdk.Acknowledgment(id=f"AwsSolutions-{rule}", reason=reason)
    cdk.Validations.of(scope).acknowledge(entry)


def acknowledge_wildcards(scope: IConstruct, resources: Iterable[str], reason: str) -> None:
    """Accept exactly the wildcard resources given, for the reason given."""
    stack = cdk.Stack.of(scope)
    for resource in resources:
        name = _flat(stack.resolve(resource))
        if "*" not in name:
            continue
        if not reason:
            raise ValueError(f"{scope.node.path}: say why {name} needs a wildcard")
        acknowledge(scope, f"IAM5[Resource::{name}]", reason)


def typed(construct: object, kind: type[T]) -> T:
    """The construct, which is of this kind.

    Raises:
        TypeError: CDK made something else.
    """
    if not isinstance(construct, kind):
        raise TypeError(f"{construct!r} is no {kind.__name__}")
    return construct


def _flat(value: Any) -> str:
    """A resolved ARN as cdk-nag spells it in a finding's id."""
    match value:
        case str():
            return value
        case {"Ref": name}:
            return f"<{name}>"
        case {"Fn::GetAtt": [name, attribute]}:
            return f"<{name}.{attribute}>"
        case {"Fn::ImportValue": name}:
            return _flat(name)
        case {"Fn::Join": [separator, parts]}:
            return str(separator).join(_flat(part) for part in parts)
    raise ValueError(f"no flat spelling for {value!r}")
