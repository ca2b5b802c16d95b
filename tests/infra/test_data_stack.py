from __future__ import annotations

from typing import Any

import pytest

from tests.infra.assembly import Assembly, listed, text

STACK = "DropforgeData"


def denies_plain_http(policy: dict[str, Any]) -> bool:
    return any(
        statement["Effect"] == "Deny"
        and statement.get("Condition") == {"Bool": {"aws:SecureTransport": "false"}}
        and statement["Principal"] == {"AWS": "*"}
        for statement in policy["PolicyDocument"]["Statement"]
    )


def test_bucket_is_versioned_private_logged_and_encrypted_with_the_key(assembly: Assembly) -> None:
    bucket = assembly.one("AWS::S3::Bucket", "Bucket")
    rule = bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"][0]

    assert bucket["VersioningConfiguration"] == {"Status": "Enabled"}
    assert rule["ServerSideEncryptionByDefault"]["SSEAlgorithm"] == "aws:kms"
    assert "Key" in text(rule["ServerSideEncryptionByDefault"]["KMSMasterKeyID"])
    assert rule["BucketKeyEnabled"]
    assert bucket["LoggingConfiguration"]["DestinationBucketName"]
    assert bucket["NotificationConfiguration"] == {
        "EventBridgeConfiguration": {"EventBridgeEnabled": True}
    }


def test_no_bucket_is_public(assembly: Assembly) -> None:
    buckets = assembly.properties("AWS::S3::Bucket")

    assert len(buckets) == 2
    for bucket in buckets.values():
        assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}


def test_buckets_queues_and_topics_refuse_plain_http(assembly: Assembly) -> None:
    for kind, owner in (
        ("AWS::S3::BucketPolicy", "AWS::S3::Bucket"),
        ("AWS::SQS::QueuePolicy", "AWS::SQS::Queue"),
    ):
        policies = assembly.properties(kind)
        assert len(policies) == len(assembly.resources(owner))
        for name, policy in policies.items():
            assert denies_plain_http(policy), name
    topics = assembly.properties("AWS::SNS::TopicPolicy")
    assert len(topics) == len(assembly.resources("AWS::SNS::Topic"))
    for name, topic in topics.items():
        assert any(
            s["Effect"] == "Deny" and s["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
            for s in topic["PolicyDocument"]["Statement"]
        ), name


def test_buckets_refuse_tls_below_1_2(assembly: Assembly) -> None:
    for policy in assembly.properties("AWS::S3::BucketPolicy").values():
        conditions = [s.get("Condition") for s in policy["PolicyDocument"]["Statement"]]
        assert {"NumericLessThan": {"s3:TlsVersion": 1.2}} in conditions


def test_superseded_versions_and_unfinished_uploads_go(assembly: Assembly) -> None:
    bucket = assembly.one("AWS::S3::Bucket", "Bucket")
    rules = {rule["Id"]: rule for rule in bucket["LifecycleConfiguration"]["Rules"]}

    assert rules["superseded"]["NoncurrentVersionExpiration"] == {"NoncurrentDays": 365}
    assert rules["unfinished-uploads"]["AbortIncompleteMultipartUpload"]
    assert not any("ExpirationInDays" in rule for rule in rules.values())


def test_registry_is_on_demand_recoverable_expiring_and_encrypted(assembly: Assembly) -> None:
    table = assembly.one("AWS::DynamoDB::Table", "Registry")

    assert [(k["AttributeName"], k["KeyType"]) for k in table["KeySchema"]] == [
        ("pk", "HASH"),
        ("sk", "RANGE"),
    ]
    assert table["BillingMode"] == "PAY_PER_REQUEST"
    assert table["PointInTimeRecoverySpecification"]["PointInTimeRecoveryEnabled"]
    assert table["SSESpecification"]["SSEType"] == "KMS"
    assert table["TimeToLiveSpecification"] == {"AttributeName": "expires_at", "Enabled": True}
    assert table["DeletionProtectionEnabled"]


@pytest.mark.parametrize(
    "kind",
    [
        "AWS::KMS::Key",
        "AWS::S3::Bucket",
        "AWS::DynamoDB::Table",
        "AWS::SecretsManager::Secret",
    ],
)
def test_data_outlives_its_stack(assembly: Assembly, kind: str) -> None:
    for name, resource in assembly.resources(kind, "DropforgeData").items():
        assert resource["DeletionPolicy"] == "Retain", name
        assert resource["UpdateReplacePolicy"] == "Retain", name


@pytest.mark.parametrize(
    ("kind", "path"),
    [
        ("AWS::SecretsManager::Secret", ["KmsKeyId"]),
        ("AWS::SQS::Queue", ["KmsMasterKeyId"]),
        ("AWS::SNS::Topic", ["KmsMasterKeyId"]),
        ("AWS::Logs::LogGroup", ["KmsKeyId"]),
        ("AWS::DynamoDB::Table", ["SSESpecification", "KMSMasterKeyId"]),
        ("AWS::StepFunctions::StateMachine", ["EncryptionConfiguration", "KmsKeyId"]),
    ],
)
def test_everything_at_rest_is_encrypted_with_the_key(
    assembly: Assembly, kind: str, path: list[str]
) -> None:
    resources = assembly.properties(kind)

    assert resources
    for name, value in resources.items():
        for part in path:
            value = value[part]
        assert "Key961B73FD" in text(value), name


def test_key_is_rotated_and_lends_itself_to_services_of_this_account_only(
    assembly: Assembly,
) -> None:
    key = assembly.one("AWS::KMS::Key")
    lent = [
        statement
        for statement in key["KeyPolicy"]["Statement"]
        if "Service" in statement["Principal"]
    ]
    services = {text(s) for statement in lent for s in listed(statement["Principal"]["Service"])}

    assert key["EnableKeyRotation"]
    assert services == {
        "cloudwatch.amazonaws.com",
        "delivery.logs.amazonaws.com",
        "events.amazonaws.com",
        "logs.<AWS::Region>.amazonaws.com",
    }
    for statement in lent:
        assert "<AWS::AccountId>" in text(next(iter(statement["Condition"].values()))) or (
            "AWS::AccountId" in str(statement["Condition"])
        )


def test_secrets_are_made_by_the_deployment_and_stand_in_no_template(assembly: Assembly) -> None:
    secrets = assembly.properties("AWS::SecretsManager::Secret")

    assert {s["Name"] for s in secrets.values()} == {
        "dropforge/approval",
        "dropforge/judge",
        "dropforge/openai",
    }
    for secret in secrets.values():
        assert "SecretString" not in secret
        assert secret["GenerateSecretString"]


def test_logs_are_forgotten_after_the_retention(assembly: Assembly) -> None:
    groups = assembly.properties("AWS::Logs::LogGroup")

    assert len(groups) >= 16
    assert {group["RetentionInDays"] for group in groups.values()} == {90}
