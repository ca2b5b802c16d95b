"""What happens by the clock: EventBridge Scheduler calls a function."""

from __future__ import annotations

from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_scheduler as scheduler
from aws_cdk import aws_scheduler_targets as targets
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from infra.permissions import Grant, service_role, uses_key


class Schedule(Construct):
    """Calls `function` at the times of a Scheduler expression (cron or rate, in UTC).

    What cannot be delivered goes to `dead_letters`, which `key_arn` encrypts. The schedule is
    `dropforge-<name>`.
    """

    def __init__(
        self,
        scope: Construct,
        id_: str,
        function: lambda_.Function,
        expression: str,
        *,
        name: str,
        description: str,
        dead_letters: sqs.Queue,
        key_arn: str,
    ) -> None:
        super().__init__(scope, id_)
        role = service_role(self, "Role", "scheduler", f"Dropforge: the {name} schedule")
        for grant in (
            Grant(("lambda:InvokeFunction",), (function.function_arn,)),
            Grant(("sqs:SendMessage",), (dead_letters.queue_arn,)),
            uses_key(key_arn, "sqs"),
        ):
            grant.to(role)
        scheduler.Schedule(
            self,
            "Schedule",
            schedule_name=f"dropforge-{name}",
            description=description,
            schedule=scheduler.ScheduleExpression.expression(expression),
            target=targets.LambdaInvoke(
                function,
                # The target would add every version of the function to the role.
                role=role.without_policy_updates(),
                dead_letter_queue=dead_letters,
                input=scheduler.ScheduleTargetInput.from_object(
                    {"time": scheduler.ContextAttribute.scheduled_time}
                ),
            ),
        )
