"""Usage plans of the API: how often a token may ask, per second and per month.

The authorizer names each token's key (`usageIdentifierKey`); `dropforge tokens create` makes the
keys. API Gateway counts by key and does so as well as it can: a burst can pass a limit by a little
(developer guide, "Usage plans and API keys"). What may never be passed is the token's budget.
"""

from __future__ import annotations

from collections.abc import Mapping

from aws_cdk import aws_apigateway as apigateway
from constructs import Construct

from infra.config import Plan


class UsagePlans(Construct):
    """The plans `dropforge-<name>` of a stage; `ids` by name."""

    def __init__(
        self, scope: Construct, name: str, stage: apigateway.Stage, plans: Mapping[str, Plan]
    ) -> None:
        super().__init__(scope, name)
        self._plans = {plan: self._plan(plan, stage, about) for plan, about in plans.items()}

    @property
    def ids(self) -> dict[str, str]:
        return {name: plan.usage_plan_id for name, plan in self._plans.items()}

    def shared_key(self, name: str, plan: str, value: str) -> str:
        """A key in a plan for callers who have none of their own; its value, which is no secret.

        The API takes keys from the authorizer alone, so that knowing one is of no use.
        """
        key = apigateway.CfnApiKey(self, name, name=f"dropforge-{name}", value=value, enabled=True)
        apigateway.CfnUsagePlanKey(
            self,
            f"{name}-in-{plan}",
            key_id=key.attr_api_key_id,
            key_type="API_KEY",
            usage_plan_id=self._plans[plan].usage_plan_id,
        )
        return value

    def _plan(self, name: str, stage: apigateway.Stage, plan: Plan) -> apigateway.UsagePlan:
        quota = None
        if plan.requests_per_month:
            quota = apigateway.QuotaSettings(
                limit=plan.requests_per_month, period=apigateway.Period.MONTH
            )
        return apigateway.UsagePlan(
            self,
            name,
            name=f"dropforge-{name}",
            description="Made from the context value `plans`",
            api_stages=[apigateway.UsagePlanPerApiStage(api=stage.rest_api, stage=stage)],
            throttle=apigateway.ThrottleSettings(
                rate_limit=plan.rate_per_second, burst_limit=plan.burst
            ),
            quota=quota,
        )
