from __future__ import annotations

import importlib
import json
import time
from collections.abc import Callable
from typing import Any

import boto3
import pytest
from click.testing import Result
from rich.console import Console
from typer.testing import CliRunner

from dropforge.backends.tokens import Tokens
from dropforge.cli import app
from dropforge.cli.deployment import PARAMETER, Deployment
from dropforge.serve.tokens import TOKEN
from lambdas.chat.callers import CALLER_SECONDS
from tests.support.gateway import Gateway
from tests.support.world import World

Dropforge = Callable[..., Result]


@pytest.fixture
def gateway() -> Gateway:
    gateway = Gateway()
    gateway.plans = {"p1": [], "p2": []}
    return gateway


@pytest.fixture
def dropforge(world: World, gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> Dropforge:
    """Runs the command on a deployment with two usage plans and the projects shop and bank."""
    module = importlib.import_module("dropforge.cli.app")
    monkeypatch.setattr(module, "console", Console(markup=False, emoji=False, width=300))
    world.registry.put_config("bank", {"serve": {"price": {"input": 1, "output": 2}}})
    world.registry.put_config("shop", {"serve": {"price": {"input": 1, "output": 2}}})
    found = boto3.client("ssm").get_parameter(Name=PARAMETER)["Parameter"]["Value"]
    plans = {"api": "a1", "stage": "prod", "ids": {"standard": "p1", "gold": "p2"}}
    told = {**json.loads(found), "plans": plans, "authorizer_ttl_s": 60}
    boto3.client("ssm").put_parameter(
        Name=PARAMETER, Value=json.dumps(told), Type="String", Overwrite=True
    )

    def run(*arguments: str) -> Result:
        here = Deployment()
        here.tokens = Tokens(here.outputs.table, here.outputs.plans, gateway=gateway)
        monkeypatch.setattr(module, "here", here)
        return CliRunner().invoke(app, ["tokens", *arguments])

    return run


def made(dropforge: Dropforge, *arguments: str) -> tuple[str, str]:
    """A new token's id, and the token."""
    token = dropforge("create", *(arguments or ("shop",)), "--quiet").stdout.strip()
    found = TOKEN.fullmatch(token)
    assert found, token
    return found[1], token


def test_token_alone_is_printed_to_be_taken_over(dropforge: Dropforge) -> None:
    result = dropforge("create", "shop", "bank")
    assert TOKEN.fullmatch(result.stdout.strip())
    assert "for shop, bank" in result.stderr
    assert "shown once" in result.stderr
    assert dropforge("create", "shop", "-q").stderr == ""


def test_list_shows_everything_but_secrets(dropforge: Dropforge) -> None:
    options = ("--name", "web site", "--plan", "gold", "--budget", "12.5", "--expires", "30")
    name, token = made(dropforge, "shop", "bank", *options)
    other, _ = made(dropforge, "bank")
    shown = dropforge("list").stdout
    line = next(line for line in shown.splitlines() if name in line)
    for text in ("web site", "shop, bank", "gold", "$0.00 of $12.50", "active"):
        assert text in line
    assert "never" in shown
    assert "plan" not in dropforge("list", "-p", "nowhere").stdout
    assert token not in shown
    assert other in shown
    assert other not in dropforge("list", "-p", "shop").stdout


@pytest.mark.parametrize("width", [80, 50, 20])
def test_list_on_a_narrow_terminal_shows_whole_ids_and_days(
    dropforge: Dropforge, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    module = importlib.import_module("dropforge.cli.app")
    monkeypatch.setattr(module, "console", Console(markup=False, emoji=False, width=width))
    arn = "arn:aws:iam::123456789012:role/a-service-with-a-long-name"
    who = dropforge("create", "shop", "bank", "--principal", arn, "-q").stdout.strip()
    name, _ = made(dropforge, "shop", "bank", "--budget", "1250", "--name", "the web site, new")
    dropforge("rotate", name)
    shown = dropforge("list").stdout
    lines = shown.splitlines()
    assert [line.split()[0] for line in lines if line.startswith("df-")] == [who, name, who]
    assert lines[-1] == f"{who} is {arn}"
    assert max(map(len, lines[:-1])) <= width
    assert lines[0].startswith("id")
    assert "…" not in shown
    if width == 80:
        assert lines[0].split() == ["id", "name", "projects", "plan", "spent", "created", "state"]
        assert time.strftime("%Y-%m-%d") in next(line for line in lines if name in line)


def test_revoked_principal_is_told_by_name_and_no_authorizer_is_asked(
    dropforge: Dropforge, gateway: Gateway
) -> None:
    arn = "arn:aws:iam::123456789012:role/web"
    public = dropforge("create", "shop", "--principal", arn, "-q").stdout.strip()
    told = dropforge("revoke", public).stdout
    assert told == f"revoked: {arn} is refused within {CALLER_SECONDS:g} s\n"
    assert gateway.flushed == []


def test_empty_list_says_how_to_make_one(dropforge: Dropforge) -> None:
    assert "dropforge tokens create" in dropforge("list").stdout


def test_budget_without_a_price_is_warned_of(dropforge: Dropforge, world: World) -> None:
    world.registry.put_config("bank", {"serve": {}})
    result = dropforge("create", "shop", "bank", "--budget", "5")
    assert "bank has no price" in result.stderr
    assert "shop has" not in result.stderr
    assert "no price" not in dropforge("create", "bank").stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("nowhere",), "no project 'nowhere'"),
        (("shop", "--plan", "silver"), "no usage plan 'silver'"),
    ],
)
def test_what_is_not_there_is_named(
    dropforge: Dropforge, arguments: tuple[str, ...], said: str
) -> None:
    result = dropforge("create", *arguments)
    assert (result.exit_code, result.stdout) == (1, "")
    assert said in result.stderr


def test_rotation_prints_the_new_token_and_how_long_the_old_one_works(
    dropforge: Dropforge, gateway: Gateway
) -> None:
    name, old = made(dropforge)
    result = dropforge("rotate", name)
    assert result.stdout.strip().startswith(f"{name}-")
    assert result.stdout.strip() != old
    assert "The old one works until" in result.stderr
    assert gateway.flushed == []
    assert "old until" in dropforge("list").stdout


@pytest.mark.parametrize("quiet", [(), ("--quiet",)])
def test_rotation_without_grace_empties_the_authorizers_memory(
    dropforge: Dropforge, gateway: Gateway, quiet: tuple[str, ...]
) -> None:
    name, _ = made(dropforge)
    assert dropforge("rotate", name, "--grace", "0", *quiet).exit_code == 0
    assert gateway.flushed == [("a1", "prod")]


def test_revoked_token_is_refused_from_now_on(dropforge: Dropforge, gateway: Gateway) -> None:
    name, token = made(dropforge)
    assert dropforge("revoke", token).stdout == "revoked: it is refused from now on\n"
    assert gateway.flushed == [("a1", "prod")]
    assert gateway.keys == {}
    assert "revoked" in dropforge("list").stdout
    assert dropforge("rotate", name).exit_code == 1


def test_who_may_not_empty_the_memory_is_told_how_long_it_lasts(
    dropforge: Dropforge, gateway: Gateway
) -> None:
    name, _ = made(dropforge)
    gateway.denies = {"FlushStageAuthorizersCache"}
    result = dropforge("revoke", name)
    assert result.exit_code == 0
    assert "for up to 60 s more" in result.stdout
    assert "/cache/authorizers" in result.stdout


@pytest.mark.parametrize("command", ["revoke", "rotate"])
def test_unknown_token_is_an_error(dropforge: Dropforge, command: str) -> None:
    result = dropforge(command, "df-none")
    assert (result.exit_code, "no such token" in result.stderr) == (1, True)


def test_principal_is_told_its_id_and_listed_with_its_arn(dropforge: Dropforge) -> None:
    arn = "arn:aws:iam::123456789012:role/web"
    public = dropforge("create", "shop", "--principal", arn, "-q").stdout.strip()
    assert public.startswith("df-")
    assert arn in dropforge("list").stdout


def test_expiry_is_counted_in_days(dropforge: Dropforge, world: World) -> None:
    made(dropforge, "shop", "--expires", "0.5")
    here: Any = Tokens(world.table)
    (one,) = here.list(time.time())
    assert one.ends_at == pytest.approx(time.time() + 43200, abs=60)
