"""A synthesised cloud assembly, as the tests read it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import aws_cdk as cdk

STACKS = ("DropforgeData", "DropforgePipeline", "DropforgeServing", "DropforgeMonitoring")
UNBUNDLED: dict[str, Any] = {"aws:cdk:bundling-stacks": []}
"""The context under which no assets are built: a template names them by their hash all the same."""

OPTIONS: dict[str, Any] = {
    "alarm_email": "ops@example.com",
    "plans": {"gold": {"rate_per_second": 100, "burst": 200, "requests_per_month": 0}},
    "sagemaker.enabled": False,
    "spark.image": "123456789012.dkr.ecr.eu-central-1.amazonaws.com/dropforge-spark:1",
    "vpc.subnet_ids": "subnet-0a1b2c3d,subnet-0a1b2c3e",
    "vpc.security_group_ids": "sg-0a1b2c3d",
}

Properties = dict[str, Any]


@dataclass(frozen=True)
class Assembly:
    """The templates of one synthesis, by stack."""

    folder: Path

    @cached_property
    def templates(self) -> dict[str, dict[str, Any]]:
        return {
            stack: json.loads((self.folder / f"{stack}.template.json").read_text())
            for stack in STACKS
        }

    def resources(self, kind: str, stack: str = "") -> dict[str, dict[str, Any]]:
        """Whole resources of a type, by logical id (of one stack, or of all)."""
        return {
            name: resource
            for at, template in self.templates.items()
            for name, resource in template["Resources"].items()
            if resource["Type"] == kind and stack in ("", at)
        }

    def properties(self, kind: str, stack: str = "") -> dict[str, Properties]:
        return {n: r.get("Properties", {}) for n, r in self.resources(kind, stack).items()}

    def one(self, kind: str, starts: str = "") -> Properties:
        """The only resource of a type whose logical id begins so."""
        found = [p for name, p in self.properties(kind).items() if name.startswith(starts)]
        assert len(found) == 1, (kind, starts, len(found))
        return found[0]

    def functions(self) -> dict[str, Properties]:
        """Lambda functions by their short name."""
        found = self.properties("AWS::Lambda::Function").values()
        return {p["FunctionName"].removeprefix("dropforge-"): p for p in found}

    def statements(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Every statement of an identity policy, with its policy's logical id."""
        for name, policy in self.properties("AWS::IAM::Policy").items():
            for statement in policy["PolicyDocument"]["Statement"]:
                yield name, statement
        for name, role in self.properties("AWS::IAM::Role").items():
            for policy in role.get("Policies", []):
                for statement in policy["PolicyDocument"]["Statement"]:
                    yield name, statement


def unbundled() -> cdk.App:
    """An application for a look at a template: no assets are built, nothing is validated."""
    return cdk.App(context=UNBUNDLED, builtin_cloud_formation_validation=False)


def listed(value: Any) -> list[Any]:
    """What CloudFormation writes as one value or as a list of them."""
    return value if isinstance(value, list) else [value]


def text(value: Any) -> str:
    """A value with its references written out, good enough to look for parts of an ARN."""
    match value:
        case {"Fn::Join": [separator, parts]}:
            return str(separator).join(text(part) for part in parts)
        case {"Ref": name}:
            return f"<{name}>"
        case {"Fn::GetAtt": [name, attribute]}:
            return f"<{name}.{attribute}>"
        case {"Fn::ImportValue": name}:
            return f"<{name}>"
        case str():
            return value
    return json.dumps(value)
