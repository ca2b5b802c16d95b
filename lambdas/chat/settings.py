"""The chat function's settings. Not a pydantic model: importing pydantic takes 66 ms."""

from __future__ import annotations

import os

import msgspec


class ChatSettings(msgspec.Struct, frozen=True):
    """Each field is read from DROPFORGE_<FIELD>.

    Attributes:
        table: the registry.
        endpoint_name: the SageMaker endpoint that holds the inference components.
        openai_base_url: of the server that speaks OpenAI's protocol, ending in /v1 or the like.
        openai_secret_arn: of the secret whose text is its key; empty for a server without one.
        deadline_seconds: until a request is given up, from its arrival. API Gateway waits for 29.
    """

    table: str
    endpoint_name: str = "dropforge"
    openai_base_url: str = "https://api.openai.com/v1"
    openai_secret_arn: str = ""
    deadline_seconds: float = 25.0

    @classmethod
    def from_environment(cls) -> ChatSettings:
        """Raises msgspec.ValidationError that names what is missing or wrong."""
        found = {
            field: os.environ[name]
            for field in cls.__struct_fields__
            if (name := f"DROPFORGE_{field.upper()}") in os.environ
        }
        return msgspec.convert(found, cls, strict=False)
