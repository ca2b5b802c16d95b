"""What of a CloudFormation template the emulator cannot deploy, and the template without it.

Reads a synthesised template and returns another; the synthesised one stays what cfn-lint, cdk-nag
and the assertions read, and what AWS gets. Each entry of UNSUPPORTED falls away as soon as the
emulator has the type.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from local.settings import ACCOUNT, REGION

Template = dict[str, Any]

UNSUPPORTED: Final[dict[str, str]] = {
    "AWS::SageMaker::": "the stand-in serves the endpoint",
    "AWS::EMRServerless::": "Spark runs in local mode",
    "AWS::ApplicationAutoScaling::": "nothing scales here",
    "AWS::WAFv2::WebACLAssociation": "no firewall in front of a loopback port",
    "AWS::WAFv2::LoggingConfiguration": "no firewall in front of a loopback port",
    "AWS::CloudWatch::CompositeAlarm": "type unknown to the emulator",
    "AWS::CloudWatch::AnomalyDetector": "type unknown to the emulator",
    "AWS::Budgets::": "nothing costs here",
    "AWS::Logs::QueryDefinition": "type unknown to the emulator",
    "AWS::StepFunctions::StateMachineVersion": "type unknown to the emulator",
    "AWS::StepFunctions::StateMachineAlias": "type unknown to the emulator",
    "AWS::SecretsManager::RotationSchedule": "type unknown to the emulator",
    "AWS::CodeDeploy::": "functions are replaced at once",
    "AWS::S3Vectors::": "type unknown to the emulator",
}
METRIC_MATH: Final = "AWS::CloudWatch::Alarm with metric math"


@dataclass(frozen=True)
class Stripped:
    """A template that the emulator can deploy, and how many resources of which kind it lacks."""

    template: Template
    kinds: Counter[str]


def unsupported(resource: Mapping[str, Any]) -> str | None:
    """The kind under which a resource is stripped; None for one that stays."""
    kind = str(resource["Type"])
    for prefix in UNSUPPORTED:
        if kind.startswith(prefix):
            return kind
    metrics = resource.get("Properties", {}).get("Metrics", [])
    if kind == "AWS::CloudWatch::Alarm" and any("Expression" in metric for metric in metrics):
        return METRIC_MATH
    return None


def strip(template: Template) -> Stripped:
    """The template without the unsupported resources.

    References to them become plain strings: the name the template gives, else the logical id, as an
    ARN where an ARN is asked for. Outputs and exports stay: other stacks import the same strings.
    """
    resources: dict[str, Any] = template.get("Resources", {})
    gone = {name: kind for name, found in resources.items() if (kind := unsupported(found))}
    kept = {name: found for name, found in resources.items() if name not in gone}
    lost = {name: resources[name] for name in gone}
    plain = _resolve({**template, "Resources": kept}, lost)
    for resource in plain["Resources"].values():
        if "DependsOn" in resource:
            _drop_dependencies(resource, lost)
    return Stripped(plain, Counter(gone.values()))


def _drop_dependencies(resource: dict[str, Any], lost: Mapping[str, Any]) -> None:
    named = resource["DependsOn"]
    left = [name for name in ([named] if isinstance(named, str) else named) if name not in lost]
    if left:
        resource["DependsOn"] = left
    else:
        del resource["DependsOn"]


def _resolve(node: Any, lost: Mapping[str, Any]) -> Any:
    """A copy of a template's part in which nothing refers to a lost resource."""
    if isinstance(node, list):
        return [_resolve(item, lost) for item in node]
    if not isinstance(node, dict):
        return node
    if set(node) == {"Ref"} and node["Ref"] in lost:
        return value_of(node["Ref"], lost[node["Ref"]], "Ref")
    if set(node) == {"Fn::GetAtt"}:
        target = node["Fn::GetAtt"]
        name, _, attribute = (
            target.partition(".") if isinstance(target, str) else (target[0], ".", str(target[1]))
        )
        if name in lost:
            return value_of(name, lost[name], attribute)
    if set(node) == {"Fn::Sub"}:
        return {"Fn::Sub": _resolve_sub(node["Fn::Sub"], lost)}
    return {key: _resolve(value, lost) for key, value in node.items()}


def _resolve_sub(sub: Any, lost: Mapping[str, Any]) -> Any:
    text, *variables = [sub] if isinstance(sub, str) else sub

    def replaced(match: re.Match[str]) -> str:
        name, _, attribute = match[1].partition(".")
        return value_of(name, lost[name], attribute or "Ref") if name in lost else match[0]

    text = re.sub(r"\$\{([A-Za-z0-9.:]+)\}", replaced, text)
    return [text, *(_resolve(found, lost) for found in variables)] if variables else text


def value_of(logical_id: str, resource: Mapping[str, Any], attribute: str) -> str:
    """The plain string that stands for an attribute of a stripped resource."""
    properties: Mapping[str, Any] = resource.get("Properties", {})
    if isinstance(properties.get(attribute), str):
        return str(properties[attribute])
    _, service, kind = str(resource["Type"]).split("::")
    named = properties.get(f"{kind}Name") or properties.get("Name")
    name = named if isinstance(named, str) else logical_id
    if attribute.endswith("Arn"):
        return f"arn:aws:{service.lower()}:{REGION}:{ACCOUNT}:{_hyphenated(kind)}/{name}"
    return name


def _hyphenated(kind: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", kind).lower()


def summary(kinds: Counter[str]) -> str:
    """One line for people: what is stripped, and why."""
    if not kinds:
        return "nothing stripped"
    reasons: dict[str, list[str]] = {}
    for kind, count in sorted(kinds.items()):
        found = next((why for prefix, why in UNSUPPORTED.items() if kind.startswith(prefix)), "")
        shown = kind.removeprefix("AWS::") + (f" x{count}" if count > 1 else "")
        reasons.setdefault(found or "unsupported by the emulator", []).append(shown)
    return "stripped for the emulator: " + "; ".join(
        f"{', '.join(names)} ({why})" for why, names in reasons.items()
    )
