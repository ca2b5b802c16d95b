"""What benchmarks/bill.py says stands in the template, counted there."""

from __future__ import annotations

from benchmarks.bill import Template
from infra.config import Settings
from tests.infra.assembly import Assembly


def test_bill_counts_what_the_template_has(assembly: Assembly, settings: Settings) -> None:
    lists = assembly.properties("AWS::WAFv2::WebACL").values()
    counted = Template(
        memory_mb=settings.functions.of("chat").memory_mb,
        architecture=settings.architecture,
        keys=len(assembly.resources("AWS::KMS::Key")),
        secrets=len(assembly.resources("AWS::SecretsManager::Secret")),
        alarm_metrics=sum(map(_metrics, assembly.properties("AWS::CloudWatch::Alarm").values())),
        polled_queues=len(assembly.resources("AWS::Lambda::EventSourceMapping")),
        web_lists=len(lists),
        web_rules=sum(len(found["Rules"]) for found in lists),
    )
    assert counted == Template(), "benchmarks/bill.py, then `python -m benchmarks cost`"


def _metrics(alarm: dict[str, object]) -> int:
    """An alarm on a formula costs what its metrics would cost alone; a query at least one."""
    queries = alarm.get("Metrics")
    if not isinstance(queries, list):
        return 1
    return max(1, sum("MetricStat" in query for query in queries))
