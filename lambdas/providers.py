"""Who trains models and answers with them, made from settings on first use.

Apart from edge.py, because the providers' SDKs take a third of a second to import, and the
functions that read data need none of them.
"""

from __future__ import annotations

from functools import cache

from dropforge.backends import ChatModel, Trainer
from dropforge.backends.openai_api import OpenAIBackend
from dropforge.backends.sagemaker import SageMakerBackend
from dropforge.backends.serverless import ServerlessBackend
from dropforge.backends.store import Store
from dropforge.errors import TrainingNotAvailableError
from dropforge.providers import PRESETS, SERVERLESS, is_hosted
from dropforge.settings import ProviderSettings, TrainSettings
from lambdas.edge import secret

CONTROL_SECONDS = 30.0
"""A request about a job takes no longer; answers of a model on a CPU do."""
ANSWER_SECONDS = 300.0


@cache
def openai_backend(
    base_url: str, secret_arn: str, provider: str = "openai", timeout: float = ANSWER_SECONDS
) -> OpenAIBackend:
    key = secret(secret_arn) if secret_arn else "none"
    return OpenAIBackend(base_url, key, timeout, preset=PRESETS[provider])


@cache
def serverless_backend(
    endpoint: str, base_component: str, store: Store, role_arn: str, package_group_arn: str,
    accept_eula: bool, hours: int, key_arn: str,
) -> ServerlessBackend:  # fmt: skip
    return ServerlessBackend(
        endpoint,
        base_component,
        store,
        role_arn=role_arn,
        package_group_arn=package_group_arn,
        accept_eula=accept_eula,
        max_hours=hours,
        key_arn=key_arn,
    )


@cache
def sagemaker_backend(endpoint: str, base_component: str, store: Store | None) -> SageMakerBackend:
    return SageMakerBackend(endpoint, base_component, store)


def trainer(backend: str, settings: TrainSettings, store: Store) -> Trainer:
    """The provider that a project's `backend` names.

    Raises:
        TrainingNotAvailableError: this deployment reaches no such provider.
    """
    if is_hosted(backend):
        return hosted(backend, settings, CONTROL_SECONDS)
    endpoint = (settings.endpoint_name, settings.base_component)
    if backend == SERVERLESS:
        return serverless_backend(
            *endpoint, store, settings.training_role_arn, settings.package_group_arn,
            settings.accept_eula, settings.training_hours, settings.key_arn,
        )  # fmt: skip
    return sagemaker_backend(*endpoint, store)


def chat_model(backend: str, settings: ProviderSettings) -> ChatModel:
    """Where the models of a backend answer. Raises TrainingNotAvailableError as `trainer` does."""
    if is_hosted(backend):
        return hosted(backend, settings)
    return sagemaker_backend(settings.endpoint_name, "", None)


def hosted(
    backend: str, settings: ProviderSettings, timeout: float = ANSWER_SECONDS
) -> OpenAIBackend:
    """The client of a hosted provider. Raises TrainingNotAvailableError as `trainer` does."""
    access = settings.providers.get(backend)
    if access is None:
        raise TrainingNotAvailableError(
            f"This deployment reaches no provider `{backend}`.",
            hint=f"Deploy with `-c providers.{backend}=URL` and put its key into the secret "
            f"dropforge/{backend}.",
        )
    return openai_backend(access.base_url, access.secret_arn, backend, timeout)
