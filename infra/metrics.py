"""The metrics that are watched: AWS's own, and those the functions write in namespace Dropforge.

Custom metrics are found by name whatever their dimensions are (`service`, `project`), so a function
may add a dimension without a change here.
"""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_apigateway as apigateway
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_sqs as sqs
from aws_cdk import aws_stepfunctions as sfn

from infra.api import STAGE

NAMESPACE = "Dropforge"
MINUTES_5 = cdk.Duration.minutes(5)


def custom(name: str, statistic: str, period: cdk.Duration) -> cloudwatch.MathExpression:
    """One number over all dimensions; `statistic` is MIN, MAX, SUM or AVG (Metrics Insights)."""
    return cloudwatch.MathExpression(
        expression=f'SELECT {statistic}({name}) FROM "{NAMESPACE}"',  # noqa: S608
        using_metrics={},
        label=name,
        period=period,
    )


def custom_series(
    name: str, statistic: str, period: cdk.Duration, dimensions: str = ""
) -> cloudwatch.MathExpression:
    """One line on a graph for each combination of dimensions.

    Args:
        dimensions: their names with commas between: only the metrics that have exactly these.
    """
    seconds = int(period.to_seconds())
    place = f"{{{NAMESPACE},{dimensions}}}" if dimensions else f'Namespace="{NAMESPACE}"'
    query = f'{place} MetricName="{name}"'
    return cloudwatch.MathExpression(
        expression=f"SEARCH('{query}', '{statistic}', {seconds})",
        using_metrics={},
        label=name,
        period=period,
    )


def executions(machine: sfn.StateMachine, what: str) -> cloudwatch.Metric:
    """How many executions `what` (Started, Succeeded, Failed, TimedOut, Aborted)."""
    return machine.metric(f"Executions{what}", statistic="Sum", period=MINUTES_5)


def dead_letters(queue: sqs.Queue) -> cloudwatch.Metric:
    return queue.metric_approximate_number_of_messages_visible(
        statistic="Maximum", period=MINUTES_5
    )


def api_metric(api: apigateway.RestApi, name: str, statistic: str) -> cloudwatch.Metric:
    """A metric of the API's stage: milliseconds, or counts (whose Average is a share)."""
    return cloudwatch.Metric(
        namespace="AWS/ApiGateway",
        metric_name=name,
        dimensions_map={"ApiName": api.rest_api_name, "Stage": STAGE},
        statistic=statistic,
        period=MINUTES_5,
    )


def first_byte(statistic: str) -> cloudwatch.Metric:
    """Milliseconds until a chat's answer begins, of all projects."""
    return cloudwatch.Metric(
        namespace=NAMESPACE, metric_name="ChatFirstByte", statistic=statistic, period=MINUTES_5
    )
