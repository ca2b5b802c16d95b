"""What must outlive everything else: the key, the bucket, the table and the secrets."""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_secretsmanager as secretsmanager
from constructs import Construct

from infra.config import Settings
from infra.permissions import acknowledge, from_account, typed

NO_ROTATION = (
    "The value is an API key of an outside provider, which only the provider can issue: there is"
    " nothing a rotation function could call. docs/operations.md says how to replace it."
)

SIGNS_FOR_DAYS = (
    "A link is valid for a week at most and dies with the key: a new value, put in place by hand,"
    " is a matter of seconds, and a rotation by the clock would break the links that wait."
)

KEY_ACTIONS_OF_LOGS = ("kms:DescribeKey", "kms:Encrypt", "kms:ReEncryptFrom", "kms:ReEncryptTo")


class DataStack(cdk.Stack):
    """Other stacks use the attributes, which are names and ARNs that this stack exports.

    `provider_secrets` and `webhook_secrets` are ARNs by the provider's name.
    """

    def __init__(self, scope: Construct, name: str, settings: Settings) -> None:
        super().__init__(scope, name, description="Dropforge: key, bucket, registry and secrets")
        key = self._key()
        bucket = self._bucket(settings, key)
        table = self._table(key)
        judge = self._secret("Judge", "dropforge/judge", "judging", key)
        self.key_arn = self.exported(key.key_arn)
        self.bucket_name = self.exported(bucket.bucket_name)
        self.bucket_arn = self.exported(bucket.bucket_arn)
        self.table_name = self.exported(table.table_name)
        self.table_arn = self.exported(table.table_arn)
        self.judge_secret_arn = self.exported(judge.secret_arn)
        self.approval_secret_arn = self.exported(self._signing_key(key).secret_arn)
        self.provider_secrets = {
            name: self._secret_arn(_id(name), f"dropforge/{name}", "training and chat", key)
            for name in settings.providers
        }
        self.webhook_secrets = {
            name: self._secret_arn(
                f"{_id(name)}Webhook", f"dropforge/{name}-webhook", "signing webhooks", key
            )
            for name in settings.webhooks
        }

    def exported(self, value: str) -> str:
        """A reference to an attribute of this stack that another stack can use."""
        return str(self.export_value(value))

    def _key(self) -> kms.Key:
        key = kms.Key(
            self,
            "Key",
            alias="dropforge",
            description="Dropforge: encrypts the bucket, the registry, queues, logs and secrets",
            enable_key_rotation=True,
            removal_policy=cdk.RemovalPolicy.RETAIN,
        )
        decrypts = ["kms:Decrypt", "kms:GenerateDataKey"]
        for service in ("events", "cloudwatch"):
            key.add_to_resource_policy(_service_statement(service, decrypts))
        # Step Functions sends its log lines, encrypted with this key, through log delivery.
        key.add_to_resource_policy(_service_statement("delivery.logs", ["kms:Decrypt"]))
        groups = f"arn:{cdk.Aws.PARTITION}:logs:{cdk.Aws.REGION}:{cdk.Aws.ACCOUNT_ID}:log-group:*"
        key.add_to_resource_policy(
            iam.PolicyStatement(
                principals=[iam.ServicePrincipal(f"logs.{cdk.Aws.REGION}.amazonaws.com")],
                actions=[*decrypts, *KEY_ACTIONS_OF_LOGS],
                resources=["*"],
                conditions={"ArnLike": {"kms:EncryptionContext:aws:logs:arn": groups}},
            )
        )
        return key

    def _bucket(self, settings: Settings, key: kms.Key) -> s3.Bucket:
        # S3 can write access logs only where S3's own keys encrypt them.
        logs = s3.Bucket(
            self,
            "AccessLogs",
            encryption=s3.BucketEncryption.S3_MANAGED,
            block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
            enforce_ssl=True,
            minimum_tls_version=1.2,
            lifecycle_rules=[s3.LifecycleRule(expiration=cdk.Duration.days(365))],
            removal_policy=cdk.RemovalPolicy.RETAIN,
        )
        acknowledge(
            logs, "S1", "This is the bucket that access logs go to; logging itself would loop."
        )
        bucket = s3.Bucket(
            self,
            "Bucket",
            encryption=s3.BucketEncryption.KMS,
            encryption_key=key,
            bucket_key_enabled=True,
            block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
            enforce_ssl=True,
            minimum_tls_version=1.2,
            versioned=True,
            server_access_logs_bucket=logs,
            server_access_logs_prefix="bucket/",
            lifecycle_rules=_lifecycle(settings.object_retention_days),
            removal_policy=cdk.RemovalPolicy.RETAIN,
        )
        # The construct's own switch adds a custom resource with a Lambda function of broad rights.
        typed(bucket.node.default_child, s3.CfnBucket).add_property_override(
            "NotificationConfiguration.EventBridgeConfiguration.EventBridgeEnabled", True
        )
        return bucket

    def _table(self, key: kms.Key) -> dynamodb.Table:
        return dynamodb.Table(
            self,
            "Registry",
            partition_key=dynamodb.Attribute(name="pk", type=dynamodb.AttributeType.STRING),
            sort_key=dynamodb.Attribute(name="sk", type=dynamodb.AttributeType.STRING),
            billing_mode=dynamodb.BillingMode.PAY_PER_REQUEST,
            point_in_time_recovery_specification=dynamodb.PointInTimeRecoverySpecification(
                point_in_time_recovery_enabled=True
            ),
            encryption=dynamodb.TableEncryption.CUSTOMER_MANAGED,
            encryption_key=key,
            time_to_live_attribute="expires_at",
            deletion_protection=True,
            removal_policy=cdk.RemovalPolicy.RETAIN,
        )

    def _signing_key(self, key: kms.Key) -> secretsmanager.Secret:
        secret = secretsmanager.Secret(
            self,
            "Approval",
            secret_name="dropforge/approval",  # noqa: S106
            description="Signs the links with which models are approved",
            encryption_key=key,
            generate_secret_string=secretsmanager.SecretStringGenerator(
                exclude_punctuation=True, password_length=64
            ),
            removal_policy=cdk.RemovalPolicy.RETAIN,
        )
        acknowledge(secret, "SMG4", SIGNS_FOR_DAYS)
        return secret

    def _secret_arn(self, name: str, path: str, use: str, key: kms.Key) -> str:
        return self.exported(self._secret(name, path, use, key).secret_arn)

    def _secret(self, name: str, path: str, use: str, key: kms.Key) -> secretsmanager.Secret:
        secret = secretsmanager.Secret(
            self,
            name,
            secret_name=path,
            description=f"API key for {use}; generated as a placeholder, put the real one in place",
            encryption_key=key,
            generate_secret_string=secretsmanager.SecretStringGenerator(
                exclude_punctuation=True, password_length=32
            ),
            removal_policy=cdk.RemovalPolicy.RETAIN,
        )
        acknowledge(secret, "SMG4", NO_ROTATION)
        return secret


def _id(provider: str) -> str:
    return {"openai": "OpenAi"}.get(provider, provider.capitalize())


def _service_statement(service: str, actions: list[str]) -> iam.PolicyStatement:
    return iam.PolicyStatement(
        principals=[iam.ServicePrincipal(f"{service}.amazonaws.com")],
        actions=actions,
        resources=["*"],
        conditions=from_account(),
    )


def _lifecycle(retention_days: int) -> list[s3.LifecycleRule]:
    """Superseded versions go after the retention; checkpoints and half-finished uploads earlier."""
    return [
        s3.LifecycleRule(
            id="superseded",
            noncurrent_version_expiration=cdk.Duration.days(retention_days),
            expired_object_delete_marker=True,
        ),
        s3.LifecycleRule(
            id="unfinished-uploads", abort_incomplete_multipart_upload_after=cdk.Duration.days(7)
        ),
        s3.LifecycleRule(
            id="infrequent",
            prefix="exports/",
            transitions=[
                s3.Transition(
                    storage_class=s3.StorageClass.INTELLIGENT_TIERING,
                    transition_after=cdk.Duration.days(30),
                )
            ],
        ),
    ]
