"""The web application firewall in front of the API."""

from __future__ import annotations

from aws_cdk import aws_apigateway as apigateway
from aws_cdk import aws_wafv2 as wafv2
from constructs import Construct


def firewall(scope: Construct, requests_per_ip: int, stage: apigateway.Stage) -> None:
    """Per-address limits and AWS's list of known attacks. Bodies are chats, so no size rule."""
    acl = wafv2.CfnWebACL(
        scope,
        "Firewall",
        name="dropforge",
        scope="REGIONAL",
        default_action=wafv2.CfnWebACL.DefaultActionProperty(allow={}),
        visibility_config=_visibility("dropforge"),
        rules=[_rate_rule(requests_per_ip), _known_attacks_rule()],
    )
    wafv2.CfnWebACLAssociation(
        scope, "FirewallAssociation", resource_arn=stage.stage_arn, web_acl_arn=acl.attr_arn
    )


def _rate_rule(limit: int) -> wafv2.CfnWebACL.RuleProperty:
    """Refuse an address with more than `limit` requests in 5 minutes."""
    name = "rate-per-address"
    return wafv2.CfnWebACL.RuleProperty(
        name=name,
        priority=0,
        action=wafv2.CfnWebACL.RuleActionProperty(block={}),
        statement=wafv2.CfnWebACL.StatementProperty(
            rate_based_statement=wafv2.CfnWebACL.RateBasedStatementProperty(
                aggregate_key_type="IP", limit=limit, evaluation_window_sec=300
            )
        ),
        visibility_config=_visibility(name),
    )


def _known_attacks_rule() -> wafv2.CfnWebACL.RuleProperty:
    name = "known-attacks"
    return wafv2.CfnWebACL.RuleProperty(
        name=name,
        priority=1,
        override_action=wafv2.CfnWebACL.OverrideActionProperty(none={}),
        statement=wafv2.CfnWebACL.StatementProperty(
            managed_rule_group_statement=wafv2.CfnWebACL.ManagedRuleGroupStatementProperty(
                vendor_name="AWS", name="AWSManagedRulesKnownBadInputsRuleSet"
            )
        ),
        visibility_config=_visibility(name),
    )


def _visibility(metric: str) -> wafv2.CfnWebACL.VisibilityConfigProperty:
    return wafv2.CfnWebACL.VisibilityConfigProperty(
        cloud_watch_metrics_enabled=True, metric_name=metric, sampled_requests_enabled=True
    )
