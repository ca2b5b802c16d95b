"""SageMaker's model registry: a group that takes a package for each trained model."""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_sagemaker as sagemaker
from constructs import Construct

from infra.permissions import Grant
from infra.pipeline_functions import PACKAGE_GROUP, registers_models


class ModelRegistry(Construct):
    """The group; it stays when the stack is deleted, as models do."""

    def __init__(self, scope: Construct, name: str) -> None:
        super().__init__(scope, name)
        group = sagemaker.CfnModelPackageGroup(
            self,
            "Group",
            model_package_group_name=PACKAGE_GROUP,
            model_package_group_description="Dropforge: the models it has trained",
        )
        group.apply_removal_policy(cdk.RemovalPolicy.RETAIN)


def keeps_packages() -> Grant:
    """What a serverless training job needs to register its model."""
    return registers_models(
        "sagemaker:AddTags",
        "sagemaker:CreateModelPackage",
        "sagemaker:DescribeModelPackage",
        "sagemaker:DescribeModelPackageGroup",
    )
