"""Who trains models and answers with them, made from settings on first use.

Apart from edge.py, because the providers' SDKs take a third of a second to import, and the
functions that read data need none of them.
"""

from __future__ import annotations

from functools import cache

from dropforge.backends import ChatModel, Trainer
from dropforge.backends.openai_api import OpenAIBackend
from dropforge.backends.sagemaker import SageMakerBackend
from dropforge.settings import ProviderSettings, TrainSettings
from lambdas.edge import secret


@cache
def openai_backend(base_url: str, secret_arn: str) -> OpenAIBackend:
    return OpenAIBackend(base_url, secret(secret_arn))


@cache
def sagemaker_backend(endpoint: str, base_component: str) -> SageMakerBackend:
    return SageMakerBackend(endpoint, base_component)


def trainer(backend: str, settings: TrainSettings) -> Trainer:
    """The provider that a project's `backend` names."""
    if backend == "sagemaker":
        return sagemaker_backend(settings.endpoint_name, settings.base_component)
    return openai_backend(settings.openai_base_url, settings.openai_secret_arn)


def chat_model(backend: str, settings: ProviderSettings) -> ChatModel:
    """Where the models of a backend answer."""
    if backend == "sagemaker":
        return sagemaker_backend(settings.endpoint_name, "")
    return openai_backend(settings.openai_base_url, settings.openai_secret_arn)
