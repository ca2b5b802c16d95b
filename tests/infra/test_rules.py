"""What cdk-nag says of the templates that AWS gets; `make check` asks cfn-lint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import aws_cdk as cdk
import pytest
from aws_cdk import aws_s3 as s3
from cdk_nag import AwsSolutionsChecks

from infra.app import build
from tests.infra.assembly import STACKS, UNBUNDLED, Assembly


def test_cdk_nag_finds_nothing(tmp_path: Path) -> None:
    app = build(str(tmp_path), UNBUNDLED)
    report = AwsSolutionsChecks(app).validate_scope(app)

    assert report.success
    assert report.violations == []


def test_synthesis_fails_where_cdk_nag_finds_something(tmp_path: Path) -> None:
    app = build(str(tmp_path), UNBUNDLED)
    s3.Bucket(cdk.Stack(app, "Careless"), "Bucket")

    with pytest.raises(RuntimeError, match="AwsSolutions-S10"):
        app.synth()


def test_every_acknowledgement_gives_its_reason(assembly: Assembly) -> None:
    given = {
        (path, rule): reason
        for stack in STACKS
        for path, entries in metadata(assembly, stack).items()
        for entry in entries
        if entry["type"] == "aws:cdk:acknowledged-rules"
        for rule, reason in entry["data"].items()
    }

    assert given
    for where, reason in given.items():
        assert len(reason.split()) >= 8, where


def metadata(assembly: Assembly, stack: str) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = json.loads(
        (assembly.folder / f"{stack}.metadata.json").read_text()
    )
    return found
