from __future__ import annotations

import json
from typing import Any

from infra.config import ROOT
from tests.infra.assembly import OPTIONS, Assembly, text

STACK = "DropforgeMonitoring"
METRICS = (
    "RunsStarted",
    "RunsSucceeded",
    "RunsFailed",
    "RowsKept",
    "RowsRejected",
    "WinRate",
    "FactRecall",
    "Promotions",
    "DaysUntilShutdown",
    "TrainingDaysLeft",
    "DriftRight",
    "DriftWinRate",
    "DriftDetected",
    "DriftFailed",
    "Fallbacks",
    "CanaryShare",
    "CanariesEnded",
    "CanaryEvidence",
    "ChatRequests",
    "ChatErrors",
    "ChatLatency",
    "ChatFirstByte",
    "CacheHits",
    "CacheSemanticHits",
    "CacheMisses",
    "SemanticChecks",
    "SemanticBound",
)


def alarms(assembly: Assembly) -> dict[str, dict[str, Any]]:
    found = assembly.properties("AWS::CloudWatch::Alarm", STACK).values()
    return {alarm["AlarmName"].removeprefix("dropforge-"): alarm for alarm in found}


def test_what_can_go_wrong_has_an_alarm(assembly: Assembly) -> None:
    assert set(alarms(assembly)) == {
        "RunsFailed",
        "RunsTimedOut",
        "RunsAborted",
        "DropDeadLetters",
        "EventDeadLetters",
        "ExtractFailed",
        "WinRateLow",
        "CanaryEnded",
        "ShutdownIn90Days",
        "ShutdownIn30Days",
        "ShutdownIn7Days",
        "TrainingEnds",
        "MigrationFailed",
        "ProviderUnanswered",
        "WatchFailed",
        "DriftDetected",
        "DriftFailed",
        "FellBack",
        "ApiSlow",
        "ApiServerErrors",
        "ApiClientErrors",
        "BudgetUnchecked",
        "ShadowDeadLetters",
        "CollectDeadLetters",
        "CheckDeadLetters",
        "SemanticCacheOff",
        "ChatFallbacks",
        "ChatThrottled",
    }


def test_every_alarm_tells_the_topic_and_says_what_it_means(assembly: Assembly) -> None:
    for name, alarm in alarms(assembly).items():
        assert text(alarm["AlarmActions"][0]).startswith("<Alarms"), name
        assert text(alarm["OKActions"][0]).startswith("<Alarms"), name
        assert len(alarm["AlarmDescription"]) > 40, name
        holds = name.startswith(("Shutdown", "TrainingEnds", "DriftDetected"))
        assert alarm["TreatMissingData"] == ("ignore" if holds else "notBreaching"), name


def test_shutdown_rings_90_30_and_7_days_ahead_and_goes_on_ringing(assembly: Assembly) -> None:
    for days in (90, 30, 7):
        alarm = alarms(assembly)[f"ShutdownIn{days}Days"]
        assert alarm["ComparisonOperator"] == "LessThanThreshold"
        assert alarm["Threshold"] == days + 1
        assert "MIN(DaysUntilShutdown)" in text(alarm["Metrics"])


def test_every_alarm_is_explained_in_operations(assembly: Assembly) -> None:
    page = (ROOT / "docs/operations.md").read_text()
    for name in alarms(assembly):
        assert f"`dropforge-{name}`" in page, name


def test_one_waiting_message_is_enough_for_an_alarm(assembly: Assembly) -> None:
    for name in ("DropDeadLetters", "EventDeadLetters"):
        alarm = alarms(assembly)[name]
        assert alarm["MetricName"] == "ApproximateNumberOfMessagesVisible"
        assert alarm["Threshold"] == 1
        assert alarm["ComparisonOperator"] == "GreaterThanOrEqualToThreshold"


def test_slow_answers_are_those_that_begin_after_two_seconds(assembly: Assembly) -> None:
    alarm = alarms(assembly)["ApiSlow"]

    assert (alarm["Namespace"], alarm["MetricName"]) == ("Dropforge", "ChatFirstByte")
    assert alarm["ExtendedStatistic"] == "p95"
    assert alarm["Threshold"] == 2000
    assert "Dimensions" not in alarm


def test_topic_takes_alarms_of_this_account_only(assembly: Assembly) -> None:
    policy = assembly.one("AWS::SNS::TopicPolicy", "Alarms")
    allowed = [s for s in policy["PolicyDocument"]["Statement"] if s["Effect"] == "Allow"]

    assert len(allowed) == 1
    assert allowed[0]["Principal"] == {"Service": "cloudwatch.amazonaws.com"}
    assert allowed[0]["Condition"] == {
        "StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}
    }


def test_dashboard_shows_every_metric_and_the_target_line(assembly: Assembly) -> None:
    dashboard = assembly.one("AWS::CloudWatch::Dashboard")
    body = text(dashboard["DashboardBody"])

    assert dashboard["DashboardName"] == "dropforge"
    for metric in METRICS:
        assert metric in body, metric
    assert "target: 2 s" in body
    assert '"p50"' in body
    assert '"p95"' in body


def test_deployment_facts_stand_in_one_parameter(assembly: Assembly) -> None:
    parameter = assembly.one("AWS::SSM::Parameter")
    facts = json.loads(text(parameter["Value"]))

    assert parameter["Name"] == "/dropforge/deployment"
    assert set(facts) == {
        *("bucket", "table", "state_machine_arn", "api_url", "dashboard"),
        *("plans", "authorizer_ttl_s"),
    }
    assert facts["api_url"].startswith("https://")
    assert facts["api_url"].endswith("/prod")
    assert facts["dashboard"] == "dropforge"


def test_alarms_reach_a_mailbox_where_one_is_given(
    assembly: Assembly, with_options: Assembly
) -> None:
    (told,) = with_options.properties("AWS::SNS::Subscription", STACK).values()
    assert (told["Protocol"], told["Endpoint"]) == ("email", OPTIONS["alarm_email"])
    assert not assembly.properties("AWS::SNS::Subscription", STACK)
