"""`dropforge extract`: read a project's database now, and drop what is new."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer
from rich.console import Console

from dropforge.cli.deployment import Deployment, fail
from dropforge.drop import Drop


def register(
    app: typer.Typer,
    deployment: Callable[[], Deployment],
    console: Console,
    follow: Callable[[Drop], None],
) -> None:
    """Add the command; `follow` shows the run of what it drops."""

    @app.command()
    def extract(
        project: Annotated[
            str | None,
            typer.Option("--project", "-p", help="Project; may be left out if there is one."),
        ] = None,
        url: Annotated[
            str | None,
            typer.Option(
                envvar="DROPFORGE_DATABASE_URL",
                show_envvar=True,
                help="The database; else the URL in the project's secret. Use the variable where "
                "it has a password.",
            ),
        ] = None,
        since: Annotated[
            str | None,
            typer.Option(help="Take what is newer than this again; the cursor stays."),
        ] = None,
        dry_run: Annotated[
            bool, typer.Option("--dry-run", help="Read and count; drop nothing, move nothing.")
        ] = False,
        watch: Annotated[
            bool, typer.Option("--watch/--no-watch", help="Show the run live.")
        ] = True,
    ) -> None:
        """Read the project's database and drop what is new since the last time."""
        here = deployment()
        name = here.project(project)
        try:
            from dropforge.backends.extraction import Extractor, Outcome  # SQLAlchemy takes 0.2 s
        except ImportError as error:
            fail(
                f"{error}. `pip install sqlalchemy 'psycopg[binary]'` brings what reads databases."
            )

        with console.status("asking the database") as status:

            def progress(rows: int) -> None:
                status.update(f"{rows:,} rows read")

            extractor = Extractor(here.store, here.registry, progress=progress)
            if dry_run:
                outcome: Outcome = extractor.look(name, url, since)
            elif since:
                outcome = extractor.again(name, since, url)
            else:
                outcome = extractor.run(name, url)
        if dry_run:
            console.print(f"columns: {', '.join(outcome.found.columns)}", soft_wrap=True)
        console.print(outcome.sentence, highlight=False, soft_wrap=True)
        where = f"s3://{here.outputs.bucket}/{outcome.key}"
        if outcome.version_id is None:
            if outcome.found.rows:
                console.print(f"it would be {where}", highlight=False, soft_wrap=True)
            return
        console.print(f"dropped {where}", highlight=False, soft_wrap=True)
        if watch:
            bucket = here.outputs.bucket
            follow(Drop(bucket, outcome.key, outcome.version_id, name, is_project_file=False))
