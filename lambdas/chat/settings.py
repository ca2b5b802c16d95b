"""The chat function's settings. Not a pydantic model: importing pydantic takes 66 ms."""

from __future__ import annotations

import os
from typing import Any, Literal

import msgspec

from dropforge.providers import Access


class ChatSettings(msgspec.Struct, frozen=True):
    """Each field is read from DROPFORGE_<FIELD>.

    Attributes:
        table: the registry.
        endpoint_name: the SageMaker endpoint that holds the inference components.
        providers: the hosted providers that answer, by the name of their backend.
        deadline_seconds: until a request is given up, from its arrival.
        shadow_queue: the URL of the queue for a shadowing challenger; empty: there is none.
        collect_queue: the URL of the queue for answers that become training data; or empty.
        cache_table: answers that are given again; empty: none are.
        check_queue: the URL of the queue for semantic hits that are to be checked; or empty.
        auth: how callers say who they are: by what the authorizer read, or with IAM.
    """

    table: str
    endpoint_name: str = "dropforge"
    providers: dict[str, Access] = {}
    deadline_seconds: float = 25.0
    shadow_queue: str = ""
    collect_queue: str = ""
    cache_table: str = ""
    check_queue: str = ""
    auth: Literal["bearer", "iam"] = "bearer"

    @classmethod
    def from_environment(cls) -> ChatSettings:
        """Raises msgspec.ValidationError that names what is missing or wrong."""
        found: dict[str, Any] = {
            field: os.environ[name]
            for field in cls.__struct_fields__
            if (name := f"DROPFORGE_{field.upper()}") in os.environ
        }
        if "providers" in found:
            found["providers"] = msgspec.json.decode(found["providers"])
        return msgspec.convert(found, cls, strict=False)
