"""`dropforge tokens`: who may call the API, for which projects, how often and for how much."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from dropforge.backends.tokens import Listed, TokenError, Wish
from dropforge.cli.deployment import Deployment, errors, told
from dropforge.cli.models import when

DAY = 86400
HOUR = 3600
NEVER = "never"


def register_tokens(
    app: typer.Typer, deployment: Callable[[], Deployment], console: Callable[[], Console]
) -> None:
    """Add the group of commands."""
    group = typer.Typer(
        help="Make, list, rotate and revoke API tokens.",
        no_args_is_help=True,
        rich_markup_mode=None,
    )
    app.add_typer(group, name="tokens")
    _register_create(group, deployment)
    _register_list(group, deployment, console)
    _register_rotate(group, deployment)
    _register_revoke(group, deployment)


def _register_create(group: typer.Typer, deployment: Callable[[], Deployment]) -> None:
    @group.command()
    def create(
        projects: Annotated[list[str], typer.Argument(help="The projects it gives access to.")],
        name: Annotated[str, typer.Option(help="Who will use it.")] = "cli",
        plan: Annotated[
            str | None, typer.Option(help="Usage plan; else `standard`, or the only one.")
        ] = None,
        budget: Annotated[
            float | None, typer.Option(min=0, help="Dollars it may spend in a calendar month.")
        ] = None,
        expires: Annotated[
            float | None, typer.Option(min=0, help="Days until it stops working.")
        ] = None,
        principal: Annotated[
            str, typer.Option(help="ARN of an IAM role or user that calls without a token.")
        ] = "",
        quiet: Annotated[bool, typer.Option("--quiet", "-q", help="The token alone.")] = False,
    ) -> None:
        """Make a token and print it; it is stored as a hash and not shown again."""
        here = deployment()
        now = time.time()
        wish = Wish(
            projects=tuple(dict.fromkeys(here.project(project) for project in projects)),
            name=name,
            plan=plan,
            budget_usd=budget,
            ends_at=int(now + expires * DAY) if expires is not None else 0,
            principal=principal,
        )
        if budget is not None:
            _warn_of_no_price(here, wish.projects)
        try:
            public, secret = here.tokens.create(wish, now)
        except TokenError as error:
            told(error)
        if not quiet:
            _note(f"{public} for {', '.join(wish.projects)}. Keep the token: it is shown once.")
        typer.echo(secret or public)


def _register_list(
    group: typer.Typer, deployment: Callable[[], Deployment], console: Callable[[], Console]
) -> None:
    @group.command("list")
    def listing(
        project: Annotated[
            str | None, typer.Option("--project", "-p", help="Only those with access to it.")
        ] = None,
    ) -> None:
        """Show all tokens, the oldest first: never their secrets."""
        found = deployment().tokens.list(time.time())
        shown = [one for one in found if project is None or project in one.projects]
        if not shown:
            console().print("No tokens yet. Make one with `dropforge tokens create PROJECT`.")
            return
        table = Table(box=None)
        for column in ("id", "name", "projects", "plan", "this month", "created"):
            table.add_column(column)
        for column in ("expires", "rotated", "state"):
            table.add_column(column)
        for one in shown:
            table.add_row(*_row(one))
        console().print(table)


def _register_rotate(group: typer.Typer, deployment: Callable[[], Deployment]) -> None:
    @group.command()
    def rotate(
        name: Annotated[str, typer.Argument(metavar="ID", help="The token's id, as in the list.")],
        grace: Annotated[
            float, typer.Option(min=0, help="Hours in which the old secret works too.")
        ] = 24,
        quiet: Annotated[bool, typer.Option("--quiet", "-q", help="The token alone.")] = False,
    ) -> None:
        """Give a token a new secret and print it: same id, projects, plan and budget."""
        here = deployment()
        now = time.time()
        try:
            secret = here.tokens.rotate(name, now, grace=grace * HOUR)
        except TokenError as error:
            told(error)
        if not quiet:
            old = f"works until {when(now + grace * HOUR)}" if grace else _forgotten(here)
            _note(f"Keep the token: it is shown once. The old one {old}.")
        elif not grace:
            here.tokens.forget_answers()
        typer.echo(secret)


def _register_revoke(group: typer.Typer, deployment: Callable[[], Deployment]) -> None:
    @group.command()
    def revoke(
        name: Annotated[
            str, typer.Argument(metavar="ID", help="The token's id, or the token itself.")
        ],
    ) -> None:
        """Make a token worthless at once."""
        here = deployment()
        try:
            here.tokens.revoke(name, time.time())
        except TokenError as error:
            told(error)
        typer.echo(f"revoked: it {_forgotten(here)}")


def _row(one: Listed) -> tuple[str, ...]:
    spent = "-"
    if one.budget_usd is not None:
        spent = f"${one.spent_usd or 0:.2f} of ${one.budget_usd:.2f}"
    rotated = when(one.rotated_at) if one.rotated_at else NEVER
    if one.old_until:
        rotated += f", old until {when(one.old_until)}"
    return (
        one.id,
        f"{one.name} ({one.principal})" if one.principal else one.name,
        ", ".join(one.projects),
        one.plan or "-",
        spent,
        when(one.created_at),
        when(one.ends_at) if one.ends_at else NEVER,
        rotated,
        one.state,
    )


def _forgotten(here: Deployment) -> str:
    """Empties the authorizer's cache; what that means for a secret that was just switched off."""
    if here.tokens.forget_answers():
        return "is refused from now on"
    seconds = here.outputs.authorizer_ttl_s
    return (
        f"is gone from the registry, and API Gateway may let it in for up to {seconds} s more:"
        " its memory of answers could not be emptied (apigateway:DELETE on the stage's"
        " /cache/authorizers)"
    )


def _warn_of_no_price(here: Deployment, projects: tuple[str, ...]) -> None:
    for project in projects:
        config = here.registry.get(project, "config") or {}
        if not (config.get("serve") or {}).get("price"):
            _note(
                f"{project} has no price, so its answers cost nothing and no budget stops them:"
                " set `serve.price` in its project.yaml."
            )


def _note(text: str) -> None:
    errors.print(text, soft_wrap=True, highlight=False)
