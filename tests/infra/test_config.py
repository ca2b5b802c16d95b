from __future__ import annotations

import pytest

from infra.config import ConfigError, has_local_storage, settings_from


def test_defaults_describe_a_deployment() -> None:
    settings = settings_from({})

    assert settings.python == "3.13"
    assert settings.sagemaker.enabled
    assert settings.sagemaker.base_component == "dropforge-base"


def test_nested_values_are_merged_by_table_and_by_dotted_name() -> None:
    settings = settings_from(
        {"functions": {"clean": {"memory_mb": 1024}}, "sagemaker.enabled": "false"}
    )

    assert settings.functions.of("clean").memory_mb == 1024
    assert settings.functions.of("clean").timeout_s == 900
    assert settings.functions.of("validate").timeout_s == 900
    assert not settings.sagemaker.enabled
    assert settings.sagemaker.endpoint_name == "dropforge"


def test_settings_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        settings_from({}).python = "3.14"


@pytest.mark.parametrize(
    ("context", "named"),
    [
        ({"python": "4"}, "python"),
        ({"providers.openai": "api.openai.com"}, "providers.openai"),
        ({"providers.openai": "https://api.openai.com/v1/"}, "providers.openai"),
        ({"providers.azure": ""}, "providers.azure needs a base URL"),
        ({"providers.opnai": ""}, "providers.opnai"),
        ({"webhooks": "together"}, "together, which is not among providers"),
        ({"log_retention_days": 42}, "log_retention_days"),
        ({"alarm_email": "nobody"}, "alarm_email"),
        ({"api": {"authorizer_ttl_s": 3600}}, "api.authorizer_ttl_s"),
        ({"functions": {"clean": {"timeout_s": 901}}}, "functions.clean.timeout_s"),
        ({"functions": {"cleen": {}}}, "functions.cleen"),
        ({"deadline_seconds": 75}, "deadline_seconds"),
        ({"functions": {"chat": {"timeout_s": 60}}}, "deadline_seconds"),
        ({"functions": {"webhook": {"timeout_s": 30}}}, "functions.webhook.timeout_s may be 29"),
        ({"extract_schedule": "daily"}, "extract_schedule"),
        ({"vpc": {"subnet_ids": ["vpc-0a1b2c3d"]}}, "vpc.subnet_ids"),
        ({"vpc.subnet_ids": "subnet-0a1b2c3d"}, "vpc"),
        ({"sagemaker.training_instance": "g6e.2xlarge"}, "sagemaker.training_instance"),
    ],
)
def test_a_wrong_value_is_refused_by_name(context: dict[str, object], named: str) -> None:
    with pytest.raises(ConfigError, match=named.replace(".", r"\.")):
        settings_from(context)


@pytest.mark.parametrize(
    "instance",
    ["ml.g4dn.xlarge", "ml.g5.2xlarge", "ml.g6e.2xlarge", "ml.p5.4xlarge", "ml.m5d.large"],
)
def test_local_storage_is_known_for_instances_with_nvme_disks(instance: str) -> None:
    assert has_local_storage(instance)


@pytest.mark.parametrize(
    "instance", ["ml.m5.xlarge", "ml.c5.large", "ml.p3.2xlarge", "ml.inf2.xlarge"]
)
def test_local_storage_is_not_assumed_for_others(instance: str) -> None:
    assert not has_local_storage(instance)
