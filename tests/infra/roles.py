"""What the roles of the templates allow, in the names of a running test."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tests.infra.assembly import Assembly, listed
from tests.support.asked import Call

ACCOUNT = {
    "AWS::AccountId": "123456789012",
    "AWS::Partition": "aws",
    "AWS::Region": "us-east-1",
    "AWS::URLSuffix": "amazonaws.com",
}


@dataclass(frozen=True)
class Allowed:
    """One action that a role may do on resources that match a pattern."""

    action: str
    resource: str

    def covers(self, call: Call) -> bool:
        pattern = ".*".join(map(re.escape, self.resource.split("*")))
        return self.action == call.action and bool(re.fullmatch(pattern, call.resource, re.DOTALL))


class Roles:
    """The roles of an assembly.

    Args:
        names: what stands for resources in the test, as (`Ref`, ARN), by logical id.
    """

    def __init__(self, assembly: Assembly, names: Mapping[str, tuple[str, str]]) -> None:
        self._assembly, self._names = assembly, names
        self._exports = {
            output["Export"]["Name"]: output["Value"]
            for template in assembly.templates.values()
            for output in template.get("Outputs", {}).values()
            if "Export" in output
        }

    def environment(self, function: str) -> dict[str, str]:
        """The variables of a function, with the test's names in them."""
        variables = self._assembly.functions()[function]["Environment"]["Variables"]
        return {name: self._text(value) for name, value in variables.items()}

    def of_function(self, name: str) -> list[Allowed]:
        return self.of(self._assembly.functions()[name]["Role"]["Fn::GetAtt"][0])

    def of(self, role: str) -> list[Allowed]:
        """What the role of this logical id allows. Conditions are left to tests of their own."""
        return [
            Allowed(action, self._text(resource))
            for statement in self._statements(role)
            for action in listed(statement["Action"])
            for resource in listed(statement["Resource"])
        ]

    def _statements(self, role: str) -> Iterator[dict[str, Any]]:
        for policy in self._assembly.properties("AWS::IAM::Policy").values():
            if {"Ref": role} in policy["Roles"]:
                yield from policy["PolicyDocument"]["Statement"]

    def _text(self, value: Any) -> str:
        match value:
            case str():
                return value
            case {"Fn::Join": [separator, parts]}:
                return str(separator).join(map(self._text, parts))
            case {"Fn::ImportValue": name}:
                return self._text(self._exports[name])
            case {"Ref": name}:
                return ACCOUNT.get(name) or self._names.get(name, (f"<{name}>",))[0]
            case {"Fn::GetAtt": [name, "Arn"]} if name in self._names:
                return self._names[name][1]
        return f"<{json.dumps(value)}>"
