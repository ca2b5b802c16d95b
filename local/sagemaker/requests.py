"""Requests held against botocore's model of SageMaker: types, required members, lengths, patterns.

The same model makes the SDK's requests, but the SDK checks neither patterns nor enumerations nor
upper bounds: AWS does, and so does this.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import Any

import botocore.session
import regex  # type: ignore[import-untyped]
from botocore.model import (
    ListShape,
    MapShape,
    OperationModel,
    ServiceModel,
    Shape,
    StructureShape,
)
from botocore.validate import ParamValidator

from local.sagemaker.errors import InvalidRequestError


@functools.cache
def operation(name: str) -> OperationModel:
    """botocore's model of an operation of the control plane."""
    return _service().operation_model(name)


@functools.cache
def _service() -> ServiceModel:
    """All of SageMaker's model, some 20 MB: one for all operations."""
    return botocore.session.get_session().get_service_model("sagemaker")


def validate(name: str, request: Mapping[str, Any]) -> None:
    """Raises InvalidRequestError, worded as AWS words it, unless AWS would take the request."""
    shape = operation(name).input_shape
    if shape is None:
        return
    report = ParamValidator().validate(request, shape)
    if report.has_errors():
        raise InvalidRequestError(report.generate_report())
    wrong = list(_violations(request, shape, ""))
    if wrong:
        plural = "s" if len(wrong) > 1 else ""
        raise InvalidRequestError(
            f"{len(wrong)} validation error{plural} detected: {'; '.join(wrong)}"
        )


def members(name: str) -> frozenset[str]:
    """The member names of an operation's answer."""
    shape = operation(name).output_shape
    return frozenset(shape.members) if shape is not None else frozenset()


def _violations(value: Any, shape: Shape, path: str) -> Iterator[str]:
    """What AWS checks and the SDK does not, for a value of the right type."""
    for constraint in _broken(value, shape):
        yield (
            f"Value '{value}' at '{path}' failed to satisfy constraint: Member must {constraint}"
        )
    if isinstance(shape, StructureShape):
        for name, inner in value.items():
            yield from _violations(inner, shape.members[name], _joined(path, name))
    elif isinstance(shape, ListShape):
        for index, inner in enumerate(value, start=1):
            yield from _violations(inner, shape.member, f"{path}.{index}.member")
    elif isinstance(shape, MapShape):
        for key, inner in value.items():
            yield from _violations(key, shape.key, _joined(path, "key"))
            yield from _violations(inner, shape.value, _joined(path, key))


def _broken(value: Any, shape: Shape) -> Iterator[str]:
    # botocore keeps "enum" in metadata for string shapes; "pattern" is anchored by the service.
    enum, pattern = shape.metadata.get("enum"), shape.metadata.get("pattern")
    if shape.type_name == "string":
        if enum and value not in enum:
            yield f"satisfy enum value set: [{', '.join(enum)}]"
        if pattern and not regex.fullmatch(pattern, value):  # Java's dialect: \p{L} and the like
            yield f"satisfy regular expression pattern: {pattern}"
    highest = shape.metadata.get("max")
    if highest is None:
        return
    if shape.type_name in ("string", "list", "map") and len(value) > highest:
        yield f"have length less than or equal to {highest}"
    elif shape.type_name in ("integer", "long", "float", "double") and value > highest:
        yield f"have value less than or equal to {highest}"


def _joined(path: str, name: str) -> str:
    """AWS writes the path of a member with small first letters."""
    small = name[:1].lower() + name[1:]
    return f"{path}.{small}" if path else small
