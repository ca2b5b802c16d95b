"""Settings of each function, read once from its environment, on first use."""

from __future__ import annotations

import os
from typing import Annotated, Self

import msgspec
from pydantic import BaseModel, BeforeValidator, ConfigDict, Json

from dropforge.providers import Access


class Settings(BaseModel):
    """What every pipeline function knows. Field `table` is read from DROPFORGE_TABLE, and so on."""

    model_config = ConfigDict(frozen=True)

    bucket: str
    table: str

    @classmethod
    def from_environment(cls) -> Self:
        """Raises pydantic.ValidationError that names each missing variable's field."""
        prefix = "DROPFORGE_"
        found = {k[len(prefix) :].lower(): v for k, v in os.environ.items() if k.startswith(prefix)}
        return cls.model_validate(found)


class StarterSettings(Settings):
    """Functions that start runs: drop and schedule."""

    state_machine_arn: str


class DropSettings(StarterSettings):
    base_component: str


class CleanSettings(Settings):
    """clean: `max_bytes` is the largest export that the function reads itself."""

    max_bytes: int = 2 << 30


class ValidateSettings(CleanSettings):
    """validate: `max_bytes` holds for all parts together.

    `training_instance` is what SageMaker projects train on, for the cost.
    """

    training_instance: str = ""


def _accesses(text: str | dict[str, Access]) -> dict[str, Access]:
    return text if isinstance(text, dict) else msgspec.json.decode(text, type=dict[str, Access])


def _names(text: str | frozenset[str]) -> frozenset[str]:
    return frozenset(text.split()) if isinstance(text, str) else text


class ProviderSettings(Settings):
    """Functions that talk to a training or chat provider.

    `providers` are the hosted ones that the deployment reaches, by the name of their backend.
    """

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    providers: Annotated[dict[str, Access], BeforeValidator(_accesses)]
    endpoint_name: str


class TrainSettings(ProviderSettings):
    """launch, poll, fallback and parity.

    `webhooks` are the hosted providers that tell when a job has ended; `training_instance` is what
    SageMaker projects train on, for the cost. The others after them are for serverless training
    jobs, which launch creates.
    """

    poll_seconds: int = 60
    base_component: str
    training_instance: str = ""
    webhooks: Annotated[frozenset[str], BeforeValidator(_names)] = frozenset()
    training_role_arn: str = ""
    package_group_arn: str = ""
    accept_eula: bool = False
    training_hours: int = 24
    key_arn: str = ""


class WatchSettings(ProviderSettings, StarterSettings):
    """watch: asks every provider, and may start a run."""


class JudgeSettings(ProviderSettings):
    """judge and drift."""

    judge_base_url: str
    judge_secret_arn: str


class WebhookSettings(Settings):
    """webhook: `webhooks` are the ARNs of the signing secrets, by the provider's name."""

    webhooks: Json[dict[str, str]]


class ApprovalSettings(Settings):
    """approve: `approval_secret_arn` is the ARN of the key that signs links."""

    approval_secret_arn: str


class AskSettings(ApprovalSettings):
    """ask: `deployment_parameter` names the SSM parameter with the HTTPS API's address."""

    topic_arn: str
    deployment_parameter: str = "/dropforge/deployment"
