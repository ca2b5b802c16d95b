"""`dropforge label`: people decide pairs that the judges decided, blind, and see how judges fit."""

from __future__ import annotations

import getpass
import sys
import webbrowser
from collections.abc import Callable
from typing import Annotated, cast, get_args

import typer
from rich.console import Console, Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from dropforge.backends.labels import Labels
from dropforge.calibration import Choice
from dropforge.cli.deployment import Deployment, fail
from dropforge.cli.label.page import serve
from dropforge.cli.label.session import Session, Shown, begin, results
from dropforge.cli.move import config_of

KEYS = "l left is better · r right is better · t tie · s skip · u undo · q quit"
_MEANS: dict[str, str] = {
    "l": "left",
    "\x1b[D": "left",
    "r": "right",
    "\x1b[C": "right",
    "t": "tie",
    "\x1b[B": "tie",
    "s": "skip",
    "u": "undo",
    "q": "quit",
    "": "quit",
}
_SIDE_BY_SIDE = 100
MOST_LETTERS = 64


def register_label(
    app: typer.Typer, here: Callable[[], Deployment], console: Callable[[], Console]
) -> None:
    """Add the command."""

    @app.command()
    def label(
        project: Annotated[
            str | None,
            typer.Option("--project", "-p", help="Project; may be left out if there is one."),
        ] = None,
        version: Annotated[
            str | None, typer.Option(help="A model version's evaluation; else the newest.")
        ] = None,
        pairs: Annotated[
            int, typer.Option("--pairs", "-n", min=1, max=1000, help="Pairs in this session.")
        ] = 20,
        who: Annotated[
            str | None, typer.Option(help="Who labels; else the name you are logged in with.")
        ] = None,
        page: Annotated[
            bool, typer.Option("--page", help="On a web page that only this machine can open.")
        ] = False,
        port: Annotated[
            int, typer.Option(min=0, max=65535, help="The page's port; else a free one.")
        ] = 0,
        show: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
    ) -> None:
        """Label pairs of answers without knowing whose they are, and see if the judges agree.

        Twenty minutes of it tell what a judge's verdict is worth (docs/calibration.md). Every label
        is kept at once; with `gate.agreement` the gate asks for such an agreement.
        """
        name, out = here().project(project), console()
        labels = Labels(here().store, here().registry)
        floor = config_of(here(), name).gate.agreement
        address = _evaluation(here(), labels, name, version)
        session, left = begin(labels, name, address, _person(who), pairs)
        if not session.total:
            _say(out, f"You have labelled every pair of this evaluation of {name}.")
        elif page:
            _on_page(session, out, port, show, lambda: results(labels, name, floor))
            return
        else:
            _say(out, f"{session.total} of {left} pairs that {session.who} has not labelled yet")
            label_in_terminal(session, out, _key if sys.stdin.isatty() else _line)
        for line in results(labels, name, floor):
            _say(out, line)


def _evaluation(here: Deployment, labels: Labels, project: str, version: str | None) -> str:
    if version is None:
        return labels.newest(project)
    chosen = here.model(project, version)["version"]
    found = here.evaluations(project).get(chosen)
    if not found:
        fail(f"{chosen} has not been evaluated.")
    return str(found["hash"])


def _person(who: str | None) -> str:
    """Under which name labels are kept."""
    name = (getpass.getuser() if who is None else who).strip()
    if not name or len(name) > MOST_LETTERS or not name.isprintable() or "#" in name:
        fail(f"Give --who: a name of at most {MOST_LETTERS} letters, without #.")
    return name


def _say(console: Console, text: str) -> None:
    console.print(text, highlight=False, soft_wrap=True)


def _key() -> str:
    """One key, without Return."""
    return typer.getchar()


def _line() -> str:
    """The next line of a pipe or a file; "" at its end."""
    line = sys.stdin.readline()
    return line.strip() or ("?" if line else "")


def label_in_terminal(session: Session, console: Console, read: Callable[[], str]) -> None:
    """Show pairs and take keys until the pairs, the input or the person's patience end.

    Args:
        read: the next key; "" at the end of the input. Ctrl-C and ctrl-D end the session too.
    """
    drawn = -1
    while (pair := session.current) is not None:
        if drawn != session.position:
            console.print(draw(pair, session, console.width))
            drawn = session.position
        try:
            key = read()
        except (KeyboardInterrupt, EOFError):
            break
        meant = _MEANS.get(key if key.startswith("\x1b") else key.lower())
        if meant == "quit":
            break
        _obey(session, console, meant)
    _say(console, f"{session.labelled} labelled, {session.position - session.labelled} skipped")


def _obey(session: Session, console: Console, meant: str | None) -> None:
    if meant == "skip":
        session.skip()
    elif meant == "undo":
        if not session.undo():
            _say(console, "There is nothing to undo.")
    elif meant in get_args(Choice):
        session.choose(cast("Choice", meant))
    else:
        _say(console, KEYS)


def draw(pair: Shown, session: Session, width: int) -> Group:
    """A pair as text for a terminal of that many columns."""
    left, right = _box("left", pair.left), _box("right", pair.right)
    if width >= _SIDE_BY_SIDE:
        answers = Table.grid(expand=True)
        answers.add_column(ratio=1)
        answers.add_column(ratio=1)
        answers.add_row(left, right)
        both = [answers]
    return Group(
        Text(f"\npair {session.position + 1} of {session.total}", style="bold"),
        *([_box("before", pair.earlier, style="dim")] if pair.earlier else []),
        _box("the customer asks", pair.question),
        _box("the agent answered", pair.reference, style="dim"),
        *(both if width >= _SIDE_BY_SIDE else (left, right)),
        Text(KEYS, style="dim"),
    )


def _box(title: str, text: str, style: str = "") -> Panel:
    return Panel(Text(text, overflow="fold", style=style), title=title, title_align="left")


def _on_page(
    session: Session,
    console: Console,
    port: int,
    show: bool,
    finish: Callable[[], list[str]],
) -> None:
    """Serve the page until the person is done or presses ctrl-C; then say how the judges fit."""

    def ready(url: str) -> None:
        _say(
            console, f"Label {session.total} pairs at {url}\nEnd with Finish there or ctrl-C here."
        )
        if show:
            webbrowser.open(url)

    try:
        lines = serve(session, finish, ready, port=port)
    except OSError as error:
        fail(f"Port {port} cannot be used: {error.strerror}. Leave out --port for a free one.")
    _say(console, f"{session.labelled} labelled, {session.position - session.labelled} skipped")
    for line in finish() if lines is None else lines:
        _say(console, line)
