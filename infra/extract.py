"""What the extract function needs beyond the others: databases' secrets, and a way to databases."""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_lambda as lambda_

from infra.config import Vpc
from infra.function import Function
from infra.permissions import Grant, typed

DATABASE_SECRETS = Grant(
    ("secretsmanager:GetSecretValue",),
    (
        f"arn:{cdk.Aws.PARTITION}:secretsmanager:{cdk.Aws.REGION}:{cdk.Aws.ACCOUNT_ID}"
        ":secret:dropforge/database/*",
    ),
    "A project names the secret of its database, unknown at deployment; the prefix is Dropforge's.",
)
NETWORK_INTERFACES = Grant(
    (
        "ec2:AssignPrivateIpAddresses",
        "ec2:CreateNetworkInterface",
        "ec2:DeleteNetworkInterface",
        "ec2:DescribeNetworkInterfaces",
        "ec2:DescribeSubnets",
        "ec2:UnassignPrivateIpAddresses",
    ),
    ("*",),
    "Lambda makes network interfaces with the function's role before they have a name (Lambda"
    " developer guide, execution role permissions for VPC access).",
)


def into_vpc(function: Function, vpc: Vpc) -> None:
    """Put the function into the VPC; where none is set it stays outside, as all others are."""
    if not vpc.subnet_ids:
        return
    NETWORK_INTERFACES.to(function.role)
    resource = typed(function.function.node.default_child, lambda_.CfnFunction)
    resource.vpc_config = lambda_.CfnFunction.VpcConfigProperty(
        subnet_ids=list(vpc.subnet_ids), security_group_ids=list(vpc.security_group_ids)
    )
