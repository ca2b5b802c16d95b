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
CALLER_SECONDS = 30
"""How long the chat function remembers a principal (lambdas/chat/callers.py)."""
NEVER = "never"
NOTHING = {NEVER, "-"}


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
        console().print(_table(shown, console().width))
        for one in shown:
            if one.principal:
                console().print(f"{one.id} is {one.principal}", soft_wrap=True)


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
            principal = here.tokens.revoke(name, time.time())
        except TokenError as error:
            told(error)
        gone = f"is refused within {CALLER_SECONDS:g} s" if principal else _forgotten(here)
        typer.echo(f"revoked: {principal or 'it'} {gone}")


COLUMNS = ("id", "name", "projects", "plan", "spent", "created", "expires", "state")
FOLDED = ("name", "projects", "spent", "state")
WORD = 10
DROPPED = ("created", "expires", "plan", "spent", "state", "projects", "name")
"""An id is to be copied: where there is no room, columns take more lines, or are left out."""


def _table(shown: list[Listed], width: int) -> Table:
    """What fits into the width; a column that says nothing of any token is left out anyway."""
    columns = dict(zip(COLUMNS, zip(*map(_row, shown), strict=True), strict=True))
    told = {n: cells for n, cells in columns.items() if n == "id" or set(cells) - NOTHING}
    for name in (*DROPPED, ""):
        least = {n: _least(n, cells) for n, cells in told.items()}
        if sum(least.values()) + len(least) - 1 <= width:
            break
        told.pop(name, None)
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for name in told:
        kept = name not in FOLDED
        table.add_column(
            name, no_wrap=kept, min_width=least[name] if kept else None, overflow="fold"
        )
    for row in zip(*told.values(), strict=True):
        table.add_row(*row)
    return table


def _least(name: str, cells: tuple[str, ...]) -> int:
    if name not in FOLDED:
        return max(map(len, (name, *cells)))
    words = (word for cell in cells for word in cell.split())
    return max(len(name), min(WORD, max(map(len, words), default=0)))


def _row(one: Listed) -> tuple[str, ...]:
    """A cell for each of COLUMNS."""
    spent = "-"
    if one.budget_usd is not None:
        spent = f"${one.spent_usd or 0:.2f} of ${one.budget_usd:.2f}"
    state = one.state
    if one.rotated_at:
        state += f"\nrotated {_day(one.rotated_at)}"
    if one.old_until:
        state += f"\nold until {when(one.old_until)}"
    return (
        one.id,
        one.name,
        ", ".join(one.projects),
        one.plan or "-",
        spent,
        _day(one.created_at),
        _day(one.ends_at),
        state,
    )


def _day(seconds: float) -> str:
    return when(seconds).partition(" ")[0] if seconds else NEVER


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
