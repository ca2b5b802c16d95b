"""A CDK cloud assembly, read: its stacks in dependency order and the assets they need.

Reads `manifest.json` and `<stack>.assets.json` (schema: aws-cdk cloud-assembly-schema). Assemblies
nested by `cdk.Stage` and Docker assets do not occur in this project and are refused.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

from local.settings import ACCOUNT, REGION


class AssemblyError(RuntimeError):
    """The cloud assembly holds something that the local deployer does not know."""


@dataclass(frozen=True)
class FileAsset:
    """A file or a folder that a stack needs in a bucket."""

    source: Path
    bucket: str
    key: str
    zipped: bool


@dataclass(frozen=True)
class Stack:
    """A stack as synthesised."""

    name: str
    template: dict[str, Any]
    assets: tuple[FileAsset, ...]


def prune(assembly: Path, stacks: list[Stack], replaced: set[str]) -> None:
    """Deletes the asset folders that earlier syntheses left in an assembly.

    Those of the keys in `replaced` stay until the next time: what was begun may still run in them.
    """
    used = {asset.source for stack in stacks for asset in stack.assets}
    used |= {assembly / f"asset.{key.partition('.')[0]}" for key in replaced}
    for folder in assembly.glob("asset.*"):
        if folder.is_dir() and folder not in used:
            shutil.rmtree(folder)


def read(assembly: Path) -> list[Stack]:
    """The stacks of an assembly, each after those it depends on. Raises AssemblyError."""
    artifacts: dict[str, Any] = json.loads((assembly / "manifest.json").read_text())["artifacts"]
    graph = {name: found.get("dependencies", []) for name, found in artifacts.items()}
    stacks = []
    for name in TopologicalSorter(graph).static_order():
        artifact = artifacts[name]
        if artifact["type"] == "cdk:cloud-assembly":
            raise AssemblyError(f"{name} is a nested assembly, which local/ does not deploy.")
        if artifact["type"] == "aws:cloudformation:stack":
            stacks.append(_stack(assembly, artifacts, name))
    return stacks


def _stack(assembly: Path, artifacts: dict[str, Any], artifact_id: str) -> Stack:
    artifact = artifacts[artifact_id]
    manifests = [
        assembly / artifacts[name]["properties"]["file"]
        for name in artifact.get("dependencies", [])
        if artifacts[name]["type"] == "cdk:asset-manifest"
    ]
    template_file = assembly / artifact["properties"]["templateFile"]
    assets = tuple(
        asset
        for manifest in manifests
        for asset in _assets(assembly, json.loads(manifest.read_text()))
        if asset.source != template_file
    )
    name = artifact["properties"].get("stackName", artifact_id)
    return Stack(name, json.loads(template_file.read_text()), assets)


def _assets(assembly: Path, manifest: dict[str, Any]) -> list[FileAsset]:
    if manifest.get("dockerImages"):
        raise AssemblyError("Docker image assets cannot be built locally: package a zip instead.")
    return [
        FileAsset(
            source=assembly / entry["source"]["path"],
            bucket=_here(destination["bucketName"]),
            key=_here(destination["objectKey"]),
            zipped=entry["source"].get("packaging") == "zip",
        )
        for entry in manifest.get("files", {}).values()
        for destination in entry["destinations"].values()
    ]


def _here(text: str) -> str:
    """Fills in the placeholders that an environment-agnostic assembly leaves open."""
    for name, value in (("AccountId", ACCOUNT), ("Region", REGION), ("Partition", "aws")):
        text = text.replace(f"${{AWS::{name}}}", value)
    return text
