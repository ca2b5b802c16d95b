"""The dashboard `dropforge`: runs above, data and models in the middle, the API below."""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch
from constructs import Construct

from infra.metrics import (
    MINUTES_5,
    api_metric,
    custom_series,
    dead_letters,
    executions,
    first_byte,
)
from infra.pipeline_stack import PipelineStack
from infra.serving_stack import ServingStack

DASHBOARD = "dropforge"
DAY, HOUR = cdk.Duration.days(1), cdk.Duration.hours(1)
WIDTH = 8


def dashboard(
    scope: Construct, pipeline: PipelineStack, serving: ServingStack
) -> cloudwatch.Dashboard:
    """A page of graphs that starts with the last week."""
    board = cloudwatch.Dashboard(
        scope, "Dashboard", dashboard_name=DASHBOARD, default_interval=cdk.Duration.days(7)
    )
    board.add_widgets(*_run_widgets(pipeline))
    board.add_widgets(*_model_widgets())
    board.add_widgets(*_canary_widgets())
    board.add_widgets(*_drift_widgets())
    board.add_widgets(*_provider_widgets())
    board.add_widgets(*_api_widgets(serving))
    board.add_widgets(*_cache_widgets())
    return board


def _run_widgets(pipeline: PipelineStack) -> list[cloudwatch.GraphWidget]:
    outcomes = ("Started", "Succeeded", "Failed", "TimedOut", "Aborted")
    machine = pipeline.state_machine
    return [
        _graph("Runs", *(executions(machine, outcome) for outcome in outcomes)),
        _graph(
            "Runs, by project",
            *(custom_series(f"Runs{what}", "Sum", HOUR) for what in outcomes[:3]),
        ),
        _graph(
            "Waiting in dead-letter queues",
            dead_letters(pipeline.drop_letters),
            dead_letters(pipeline.event_letters),
        ),
    ]


def _model_widgets() -> list[cloudwatch.GraphWidget]:
    return [
        _graph(
            "Rows kept and rejected",
            custom_series("RowsKept", "Sum", DAY),
            custom_series("RowsRejected", "Sum", DAY),
        ),
        _graph(
            "Win rate and fact recall",
            custom_series("WinRate", "Average", HOUR),
            custom_series("FactRecall", "Average", HOUR),
            between=(0, 1),
            line=cloudwatch.HorizontalAnnotation(value=0.5, label="no better than its opponent"),
        ),
        _graph("Promotions", custom_series("Promotions", "Sum", DAY)),
    ]


def _canary_widgets() -> list[cloudwatch.GraphWidget]:
    return [
        _graph(
            "The challenger's share of the traffic",
            custom_series("CanaryShare", "Maximum", MINUTES_5),
            between=(0, 1),
            right=[custom_series("CanariesEnded", "Sum", HOUR)],
        ),
        _graph(
            "Chats and errors, by arm",
            custom_series("ChatRequests", "Sum", MINUTES_5, "project,arm"),
            custom_series("ChatErrors", "Sum", MINUTES_5, "project,arm"),
            custom_series("ChatFallbacks", "Sum", MINUTES_5),
        ),
        _graph(
            "Evidence that the challenger is worse",
            custom_series("CanaryEvidence", "Maximum", MINUTES_5),
            line=cloudwatch.HorizontalAnnotation(value=20, label="the canary ends"),
        ),
    ]


def _drift_widgets() -> list[cloudwatch.GraphWidget]:
    return [
        _graph(
            "Right answers of the models in production",
            custom_series("DriftRight", "Minimum", DAY),
            between=(0, 1),
        ),
        _graph(
            "Win rate of the models in production against their own first answers",
            custom_series("DriftWinRate", "Minimum", DAY),
            between=(0, 1),
            line=cloudwatch.HorizontalAnnotation(value=0.5, label="as good as at first"),
        ),
        _graph(
            "Drift found, looks that failed",
            custom_series("DriftDetected", "Maximum", DAY),
            custom_series("DriftFailed", "Maximum", DAY),
        ),
    ]


def _provider_widgets() -> list[cloudwatch.GraphWidget]:
    return [
        _graph(
            "Days until a champion's provider shuts it down",
            custom_series("DaysUntilShutdown", "Minimum", DAY),
            between=(0, 120),
            line=cloudwatch.HorizontalAnnotation(value=30, label="30 days"),
        ),
        _graph(
            "Days on which a project's first backend takes jobs",
            custom_series("TrainingDaysLeft", "Minimum", DAY),
            between=(0, 120),
        ),
        _graph(
            "Backends given up, providers silent",
            custom_series("Fallbacks", "Sum", HOUR),
            custom_series("ProviderUnanswered", "Maximum", DAY),
            custom_series("MigrationFailed", "Maximum", DAY),
            custom_series("WatchFailed", "Sum", DAY),
        ),
    ]


def _api_widgets(serving: ServingStack) -> list[cloudwatch.GraphWidget]:
    api = serving.api.rest_api
    return [
        _graph(
            "First byte of an answer, ms",
            first_byte("p50"),
            first_byte("p95"),
            line=cloudwatch.HorizontalAnnotation(value=2000, label="target: 2 s"),
        ),
        _graph(
            "Chats that another model answered, by reason",
            *(
                custom_series(f"Chat{reason}Fallbacks", "Sum", MINUTES_5)
                for reason in ("Cold", "Throttled", "Slow", "Failed")
            ),
            custom_series("ChatRetriesSpent", "Sum", MINUTES_5),
        ),
        _graph(
            "API requests and errors",
            api_metric(api, "Count", "Sum"),
            api_metric(api, "4XXError", "Sum"),
            api_metric(api, "5XXError", "Sum"),
        ),
        _graph(
            "Chats",
            custom_series("ChatRequests", "Sum", HOUR),
            custom_series("ChatErrors", "Sum", HOUR),
            right=[custom_series("ChatLatency", "p95", HOUR)],
        ),
    ]


def _cache_widgets() -> list[cloudwatch.GraphWidget]:
    return [
        _graph(
            "Answers given again",
            custom_series("CacheHits", "Sum", HOUR),
            custom_series("CacheSemanticHits", "Sum", HOUR),
            custom_series("CacheMisses", "Sum", HOUR),
        ),
        _graph(
            "Semantic hits checked, and false",
            custom_series("SemanticChecks", "Sum", HOUR),
            custom_series("SemanticFalse", "Sum", HOUR),
            right=[custom_series("SemanticBound", "Maximum", HOUR)],
        ),
        _graph(
            "Cache reads, writes and checks that failed",
            custom_series("CacheReadFailed", "Sum", HOUR),
            custom_series("CacheWriteFailed", "Sum", HOUR),
            custom_series("EmbeddingFailed", "Sum", HOUR),
            custom_series("CheckSendFailed", "Sum", HOUR),
        ),
    ]


def _graph(
    title: str,
    *metrics: cloudwatch.IMetric,
    right: list[cloudwatch.IMetric] | None = None,
    between: tuple[float, float] | None = None,
    line: cloudwatch.HorizontalAnnotation | None = None,
) -> cloudwatch.GraphWidget:
    axis = cloudwatch.YAxisProps(min=between[0], max=between[1]) if between else None
    return cloudwatch.GraphWidget(
        title=title,
        left=list(metrics),
        right=right,
        left_y_axis=axis,
        left_annotations=[line] if line else None,
        width=WIDTH,
    )
