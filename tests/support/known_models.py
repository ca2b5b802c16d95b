"""Hooks of schemathesis: half of the models that it makes up become one that there is.

Without them a valid request would hardly ever get past the model's name.
"""

from __future__ import annotations

import os
from typing import Any

import schemathesis

PROJECT = os.environ.get("DROPFORGE_MODEL", "")


def _known(name: str, choice: str) -> str:
    return f"{PROJECT}{choice}" if len(name) % 2 == 0 else name


@schemathesis.hook
def map_body(context: Any, body: Any) -> Any:
    """Names a model in a body that names any."""
    if isinstance(body, dict) and isinstance(body.get("model"), str):
        return {**body, "model": _known(body["model"], "/embeddings" if "input" in body else "")}
    return body


@schemathesis.hook
def map_path_parameters(context: Any, parameters: Any) -> Any:
    """Names a model in the path of one."""
    if isinstance(parameters, dict) and isinstance(parameters.get("id"), str):
        return {**parameters, "id": _known(parameters["id"], "/base")}
    return parameters
