"""The settings of a deployment: one frozen model, read from the CDK context.

Defaults stand in `cdk.json`, which is read here as well, because the CDK application reads it only
when the `cdk` command starts it. Nested values are set whole or by a dotted name, as in
`cdk deploy -c sagemaker.enabled=false`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from dropforge.providers import PRESETS, Hosted

ROOT = Path(__file__).resolve().parent.parent
API_TIMEOUT_S = 29
"""What API Gateway waits for a whole answer, in seconds (the quota's default)."""
STREAM_TIMEOUT_S = 900
"""What a streamed answer may take (API Gateway developer guide, "Stream the integration response").

While no byte comes, a regional API waits for 5 minutes: longer than any deadline here.
"""

Name = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9](-*[a-zA-Z0-9]){0,55}$")]
Url = Annotated[str, StringConstraints(pattern=r"^https?://[^\s/]+(/[^\s]*[^\s/])?$")]
SecureUrl = Annotated[str, StringConstraints(pattern=r"^https://[^\s/]+(/\S*)?$")]
Cron = Annotated[str, StringConstraints(pattern=r"^(cron|rate)\(.+\)$")]
Instance = Annotated[str, StringConstraints(pattern=r"^ml\.[a-z0-9-]+\.[a-z0-9-]+$")]
Email = Annotated[str, StringConstraints(pattern=r"^$|^[^@\s]+@[^@\s]+\.[^@\s]+$")]
BedrockModel = Annotated[
    str, StringConstraints(pattern=r"^[a-z0-9-]{2,}(\.[A-Za-z0-9_:-]+)+$", max_length=200)
]
PlanName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]
Positive = Annotated[int, Field(gt=0)]
LogDays = Literal[1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 3653]


class ConfigError(ValueError):
    """The CDK context has a value that no deployment can be made from."""


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FunctionSize(_Section):
    """Memory and temporary storage in MB, timeout in seconds."""

    memory_mb: Annotated[int, Field(ge=128, le=10240)]
    timeout_s: Annotated[int, Field(ge=1, le=900)]
    storage_mb: Annotated[int, Field(ge=512, le=10240)] = 512


class FunctionSizes(_Section):
    """The size of each Lambda function."""

    drop: FunctionSize
    clean: FunctionSize
    validate_: FunctionSize = Field(alias="validate")
    launch: FunctionSize
    poll: FunctionSize
    wait: FunctionSize
    fallback: FunctionSize
    parity: FunctionSize
    plan: FunctionSize
    judge: FunctionSize
    verdict: FunctionSize
    ask: FunctionSize
    approve: FunctionSize
    promote: FunctionSize
    canary: FunctionSize
    rollback: FunctionSize
    fail: FunctionSize
    schedule: FunctionSize
    watch: FunctionSize
    drift: FunctionSize
    webhook: FunctionSize
    shadow: FunctionSize
    check: FunctionSize
    keep: FunctionSize
    extract: FunctionSize
    authorize: FunctionSize
    chat: FunctionSize

    def of(self, function: str) -> FunctionSize:
        size: FunctionSize = getattr(self, "validate_" if function == "validate" else function)
        return size


def _listed(value: object) -> object:
    """A list as the command line has it: `-c vpc.subnet_ids=subnet-1,subnet-2`."""
    return [part.strip() for part in value.split(",")] if isinstance(value, str) else value


def _ids(kind: str) -> Any:
    entry = Annotated[str, StringConstraints(pattern=rf"^{kind}-[0-9a-f]{{8,17}}$")]
    return Annotated[tuple[entry, ...], BeforeValidator(_listed)]


class Vpc(_Section):
    """The network of the databases that are extracted from; empty where they are public.

    The subnets need a way to S3, DynamoDB and Secrets Manager: a NAT gateway, or VPC endpoints.
    """

    subnet_ids: _ids("subnet") = ()  # type: ignore[valid-type]
    security_group_ids: _ids("sg") = ()  # type: ignore[valid-type]

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if bool(self.subnet_ids) != bool(self.security_group_ids):
            raise ValueError("subnet_ids and security_group_ids go together")
        return self


class ApiLimits(_Section):
    """Limits of the HTTPS API. `requests_per_ip` is counted by the firewall over 5 minutes."""

    rate_per_second: Positive
    burst: Positive
    requests_per_ip: Annotated[int, Field(ge=10)]
    authorizer_ttl_s: Annotated[int, Field(ge=0, le=60)]


class Plan(_Section):
    """A usage plan: what each token in it may ask. `requests_per_month` 0: there is no limit."""

    rate_per_second: Positive
    burst: Positive
    requests_per_month: Annotated[int, Field(ge=0)] = 0


class Jwt(_Section):
    """An issuer whose JWTs are taken beside Dropforge's own tokens: who names it, and its keys, is
    believed, so both are https.

    `claim` lists the projects. All of these callers share one key of `plan`; `budget_usd` is what
    each subject may spend in a month.
    """

    issuer: SecureUrl
    audience: Annotated[str, StringConstraints(min_length=1)]
    jwks_url: SecureUrl
    claim: Annotated[str, StringConstraints(min_length=1)] = "projects"
    plan: str = "standard"
    budget_usd: Annotated[float, Field(ge=0)] | None = None


class Auth(_Section):
    """How callers say who they are: by bearer token; by JWT, too; or, with `iam`, by AWS Signature.

    With `iam` there is no authorizer, and no usage plan: those belong to the keys that it names.
    """

    jwt: Jwt | None = None
    iam: bool = False

    @model_validator(mode="after")
    def _one(self) -> Self:
        if self.iam and self.jwt:
            raise ValueError("jwt needs the authorizer, which iam does without: choose one")
        return self


class SageMaker(_Section):
    """Own GPUs: training jobs, and an endpoint that scales to zero.

    `enabled` says whether the endpoint exists. An image is `repository:tag` in AWS's deep learning
    container registry of the region, or a full URI. `vpc` is the network of training jobs, for
    accounts whose buckets are reached from a VPC only; it needs a way to S3 and CloudWatch.
    `accept_eula` accepts the licences of the gated models that `sagemaker-serverless` trains.
    """

    enabled: bool
    endpoint_name: Name
    base_model: Name
    training_image: str
    training_instance: Instance
    training_hours: Annotated[int, Field(ge=1, le=120)]
    volume_gb: Positive
    serving_image: str
    serving_instance: Instance
    serving_memory_mb: Positive
    max_copies: Positive
    max_context: Positive
    max_loras: Positive
    max_lora_rank: Positive
    accept_eula: bool = False
    vpc: Vpc = Vpc()

    @property
    def base_component(self) -> str:
        """The inference component that holds the base model; LoRA adapters are loaded on top."""
        return f"{self.endpoint_name}-base"


class Spark(_Section):
    """EMR Serverless for what is larger than `max_bytes`; an empty `image`: there is none.

    `image` is the URI of an image in ECR that was built of spark/Dockerfile. The maxima hold for
    all jobs together. `network` is for accounts whose buckets are reached from a VPC only.
    """

    image: str = ""
    max_vcpu: Annotated[int, Field(ge=8, le=2000)] = 64
    max_memory_gb: Annotated[int, Field(ge=32, le=16000)] = 256
    max_disk_gb: Annotated[int, Field(ge=100, le=32000)] = 2000
    network: Vpc = Vpc()


class Settings(_Section):
    """Everything that may differ between two deployments.

    `providers` are the hosted providers that it reaches, with their base URLs; an empty one is the
    preset's (dropforge/providers.py). `webhooks` are those of them that tell when a job has ended.
    `bedrock_judges` are the models, or inference profiles, that judges may ask by Bedrock's own
    protocol.
    `platform` is a `uv` target platform; left empty it follows from architecture and Python
    version. `max_bytes` is the largest export, or all parts of a dataset, that clean and validate
    read in a function: beyond it Spark does. Models are approved at `approval_email`; an empty one
    is `alarm_email`. `object_retention_days` is how long superseded
    versions of an object are kept.
    """

    python: Annotated[str, StringConstraints(pattern=r"^3\.\d+$")]
    architecture: Literal["x86_64", "arm64"]
    platform: str = ""
    providers: dict[Hosted, Url | Literal[""]]
    webhooks: Annotated[tuple[Hosted, ...], BeforeValidator(_listed)] = ()
    judge_base_url: Url
    bedrock_judges: Annotated[tuple[BedrockModel, ...], BeforeValidator(_listed)] = ()
    poll_seconds: Positive
    drop_concurrency: Annotated[int, Field(ge=2, le=1000)]
    deadline_seconds: Annotated[float, Field(gt=0)]
    log_retention_days: LogDays
    object_retention_days: Positive
    alarm_email: Email = ""
    approval_email: Email = ""
    monthly_schedule: Cron
    extract_schedule: Cron
    watch_schedule: Cron
    drift_schedule: Cron
    vpc: Vpc = Vpc()
    win_rate_floor: Annotated[float, Field(ge=0, le=1)]
    max_bytes: Annotated[int, Field(gt=0, le=2 << 30)]
    spark: Spark
    functions: FunctionSizes
    api: ApiLimits
    plans: Annotated[dict[PlanName, Plan], Field(min_length=1)]
    auth: Auth = Auth()
    sagemaker: SageMaker

    def base_url(self, provider: Hosted) -> str:
        """Where a provider of the deployment answers; may hold `{region}`."""
        return self.providers[provider] or PRESETS[provider].base_url

    @model_validator(mode="after")
    def _providers_are_known(self) -> Self:
        if nowhere := [name for name in self.providers if not self.base_url(name)]:
            raise ValueError(f"providers.{nowhere[0]} needs a base URL: it has none of its own")
        if strangers := set(self.webhooks) - set(self.providers):
            raise ValueError(f"webhooks names {min(strangers)}, which is not among providers")
        return self

    @model_validator(mode="after")
    def _plan_of_jwts_exists(self) -> Self:
        if self.auth.jwt and self.auth.jwt.plan not in self.plans:
            raise ValueError(f"auth.jwt.plan names {self.auth.jwt.plan}, which is not among plans")
        return self

    @model_validator(mode="after")
    def _deadline_fits(self) -> Self:
        timeout = self.functions.chat.timeout_s
        if not self.deadline_seconds < timeout <= STREAM_TIMEOUT_S:
            raise ValueError(
                f"deadline_seconds ({self.deadline_seconds:g}) must be below"
                f" functions.chat.timeout_s ({timeout}), and that at most {STREAM_TIMEOUT_S}"
            )
        for name in ("approve", "webhook"):
            if self.functions.of(name).timeout_s > API_TIMEOUT_S:
                raise ValueError(
                    f"functions.{name}.timeout_s may be {API_TIMEOUT_S} at most: API Gateway waits"
                    " no longer for an answer that is not streamed"
                )
        return self


def defaults(root: Path = ROOT) -> dict[str, Any]:
    """The context in `cdk.json`, feature flags included."""
    context: dict[str, Any] = json.loads((root / "cdk.json").read_text())["context"]
    return context


def settings_from(context: Mapping[str, Any]) -> Settings:
    """The settings that a context describes, over the defaults of `cdk.json`.

    Raises:
        ConfigError: which value is wrong, and what would be right.
    """
    merged = _fold(defaults(), context)
    try:
        return Settings.model_validate({k: v for k, v in merged.items() if k in _FIELDS})
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise ConfigError(f"The CDK context does not describe a deployment: {wrong}") from error


_FIELDS = frozenset(Settings.model_fields)


def _fold(base: dict[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with the values of `over`: tables are merged, a dotted name reaches into a table."""
    result = dict(base)
    for key, value in over.items():
        head, dot, rest = key.partition(".")
        if dot and head in _FIELDS:
            result[head] = _fold(result.get(head, {}), {rest: value})
        elif isinstance(value, Mapping) and isinstance(result.get(key), dict):
            result[key] = _fold(result[key], value)
        else:
            result[key] = value
    return result


_LOCAL_STORAGE = re.compile(
    r"^ml\.(g4dn|g5|g6e?|gr6|g7e|p3dn|p4de?|p5\w*|p6\S*|trn\w+|[a-z]+\d[a-z]*d)\."
)


def has_local_storage(instance: str) -> bool:
    """Whether an ML instance type has NVMe disks of its own.

    Those are encrypted by the hardware, and SageMaker refuses a volume key for them (API reference,
    `ResourceConfig.VolumeKmsKeyId` and `CreateEndpointConfig.KmsKeyId`).
    """
    return bool(_LOCAL_STORAGE.match(instance))
