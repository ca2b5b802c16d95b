"""What the documents tell people to type exists: commands, their options, make targets, files."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import yaml
from typer.main import get_command

from dropforge.cli import app
from dropforge.project import ProjectConfig, parse_project

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/*.md")])
COMMANDS = getattr(get_command(app), "commands")  # noqa: B009  (typer's own click is untyped)
TYPED = [
    (page.relative_to(ROOT).as_posix(), line)
    for page in PAGES
    for line in sorted(
        set(
            re.findall(
                r"(?:^|`|\$\()(dropforge [a-z][^`\n]*?)(?:`|\)|  +#|$)", page.read_text(), re.M
            )
        )
    )
]
TARGETS = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


@pytest.mark.parametrize(("page", "line"), TYPED)
def test_command_in_docs_exists_with_its_options(page: str, line: str) -> None:
    words = shlex.split(line.replace("…", "x"), comments=True)
    command = COMMANDS.get(words[1])
    assert command is not None, f"{page}: there is no `{words[1]}` command"
    if len(words) > 2 and not words[2].startswith("-"):
        within = getattr(command, "commands", None)
        command = command if within is None else within.get(words[2])
        assert command is not None, f"{page}: there is no `{words[1]} {words[2]}` command"
    known = {o for p in command.params for o in (*p.opts, *p.secondary_opts)}
    given = {word.split("=")[0] for word in words[2:] if word.startswith("-")}
    assert given <= known, f"{page}: {line}"


def test_docs_name_commands_at_all() -> None:
    assert {line.split()[1] for _, line in TYPED} >= {
        "drop", "status", "models", "promote", "rollback", "lineage", "report", "tokens",
    }  # fmt: skip


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_make_targets_and_links_in_docs_exist(page: Path) -> None:
    text = page.read_text()
    named = set(re.findall(r"(?:^|`)make ([a-z]+)", text, re.MULTILINE))
    assert named <= TARGETS
    for link in re.findall(r"\]\((?!https?:)([^)#]+)", text):
        assert (page.parent / link).exists(), f"{page.name} links to {link}"


def test_every_key_of_project_yaml_is_documented() -> None:
    text = (ROOT / "docs/project.md").read_text()
    for name, section in ProjectConfig.model_fields.items():
        assert f"`{name}" in text, name
        for key in getattr(section.annotation, "model_fields", {}):
            assert f".{key}`" in text, f"{name}.{key}"


def test_project_files_in_docs_and_examples_are_valid() -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs/project.md").read_text(), re.DOTALL)
    assert blocks
    for text in [*blocks, *(p.read_text() for p in ROOT.glob("examples/*.yaml"))]:
        parse_project("example", text)
        assert yaml.safe_load(text)["backend"] in ("openai", "sagemaker")
