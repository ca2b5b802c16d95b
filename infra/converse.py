"""Who may ask which of Bedrock's models, by its own protocol (Converse)."""

from __future__ import annotations

import re

import aws_cdk as cdk

from infra.config import Settings
from infra.permissions import Grant

_PROFILE = re.compile(r"(global|apac|us-gov|[a-z]{2})\.(.+)")
"""The id of a cross-region inference profile: the model's, after where it is routed to."""


def converses(settings: Settings) -> tuple[Grant, ...]:
    """Ask the models of `bedrock_judges`, and no others; nothing where there are none.

    docs.aws.amazon.com/bedrock/latest/userguide/inference-profiles-prereq.html: a profile routes to
    the model in several regions, which have to be allowed as well, by way of the profile alone.
    """
    return tuple(grant for model in settings.bedrock_judges for grant in _asks(model))


def _asks(model: str) -> tuple[Grant, ...]:
    profile = _PROFILE.fullmatch(model)
    if profile is None:
        return (Grant(("bedrock:InvokeModel",), (_model_arn(cdk.Aws.REGION, model),)),)
    arn = _arn(cdk.Aws.REGION, cdk.Aws.ACCOUNT_ID, f"inference-profile/{model}")
    place, routed = profile.groups()
    regions = ("*", "") if place == "global" else ("*",)
    return (
        Grant(("bedrock:InvokeModel",), (arn,)),
        Grant(
            ("bedrock:InvokeModel",),
            tuple(_model_arn(region, routed) for region in regions),
            "AWS may add regions to an inference profile; the statement is limited to one model, by"
            " way of one profile.",
            conditions={"StringEquals": {"bedrock:InferenceProfileArn": arn}},
        ),
    )


def _model_arn(region: str, model: str) -> str:
    return _arn(region, "", f"foundation-model/{model}")


def _arn(region: str, account: str, resource: str) -> str:
    return f"arn:{cdk.Aws.PARTITION}:bedrock:{region}:{account}:{resource}"
