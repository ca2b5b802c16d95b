"""The command line of the local default: `python -m local up|down|status|env|logs|clean`."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from botocore.exceptions import BotoCoreError, ClientError
from rich.console import Console
from rich.table import Table

from local import assembly, deploy, processes
from local import demo as demonstration
from local import up as instance
from local.settings import Settings, SetupError

app = typer.Typer(
    help="The whole of Dropforge on this machine: no AWS account, no Docker, no key.\n\n"
    "DROPFORGE_PORT (default 4566) is the first of three consecutive ports on 127.0.0.1;"
    " DROPFORGE_STATE (default .local) is the folder that holds everything written;"
    " DROPFORGE_CONTEXT (a JSON object) are CDK context values, as `-c` gives them on AWS.",
    no_args_is_help=True,
    add_completion=False,
)
console = Console(highlight=False)


@contextmanager
def explained() -> Iterator[Settings]:
    """The settings; a foreseeable failure becomes its message and exit status 1."""
    try:
        yield Settings.from_environment()
    except (SetupError, deploy.DeployError, assembly.AssemblyError) as error:
        console.print(str(error), style="red", markup=False)
        raise typer.Exit(1) from error
    except (ClientError, BotoCoreError) as error:
        console.print(f"The emulator refused: {error}", style="red", markup=False)
        raise typer.Exit(1) from error


@app.command()
def synth() -> None:
    """Build the functions' packages and synthesise the template; start nothing."""
    with explained() as settings:
        deploy.synthesise(settings)


@app.command()
def up() -> None:
    """Start everything and deploy the template; redeploy what changed when it already runs."""
    with explained() as settings, console.status("starting") as status:

        def tell(line: str) -> None:
            console.print(line, markup=False, soft_wrap=True)

        instance.up(settings, lambda doing: status.update(doing), tell)
        tell(f"Ready. For other shells: source {settings.env_file}")


@app.command()
def demo(
    export: Annotated[Path, typer.Argument(help="the file to drop")] = Path("examples/tickets.csv"),
) -> None:
    """Bring everything up, drop an export, follow the run and ask the deployed API a question."""
    with explained() as settings:
        demonstration.demo(settings, export, console)


@app.command()
def down() -> None:
    """Stop this instance's processes, and no others; what it stored stays for the next `up`."""
    with explained() as settings:
        stopped = instance.down(settings)
        console.print(f"Stopped: {', '.join(stopped)}." if stopped else "Nothing was running.")


@app.command()
def clean() -> None:
    """Stop, and delete everything the instance stored."""
    with explained() as settings:
        instance.clean(settings)
        console.print(f"{settings.state} is gone.", markup=False)


@app.command()
def status() -> None:
    """Show the servers and the deployment; exit status 1 unless everything answers."""
    with explained() as settings:
        table = Table("server", "address", "pid", "state", box=None)
        well = True
        for service in instance.services(settings):
            process = processes.running(settings, service.name)
            healthy = process is not None and service.healthy()
            well &= healthy
            state = "answers" if healthy else "starting" if process else "stopped"
            pid = str(process.pid) if process else ""
            table.add_row(service.name, f"127.0.0.1:{service.port}", pid, state)
        console.print(table)
        if not well:
            raise typer.Exit(1)
        for name, value in deploy.outputs(settings).items():
            console.print(f"{name:<18} {value}", markup=False, soft_wrap=True)


@app.command()
def env() -> None:
    """Print the shell lines that lead clients here: eval "$(python -m local env)"."""
    with explained() as settings:
        if not settings.env_file.exists():
            raise SetupError("Nothing is deployed yet: python -m local up")
        print(settings.env_file.read_text(), end="")


@app.command()
def logs(
    server: Annotated[
        str, typer.Argument(help="emulator, model or sagemaker; all if left out")
    ] = "",
    lines: Annotated[int, typer.Option("--lines", "-n", help="how many of the last lines")] = 40,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="go on as lines are added")
    ] = False,
) -> None:
    """Show what the servers wrote."""
    with explained() as settings:
        chosen = [n for n in instance.SERVICES if server.lower() in n.lower()]
        if not chosen:
            raise SetupError(f"There is no server {server!r}: say emulator, model or sagemaker.")
        files = [f for n in chosen if (f := processes.log_file(settings, n)).exists()]
        if follow and files:
            command = ["tail", "-n", str(lines), "-f", *map(str, files)]
            subprocess.run(command, check=False)  # noqa: S603 - log files of our own
            return
        for file in files:
            console.print(f"== {file}", style="bold", markup=False)
            console.print(processes.tail(file, lines), markup=False)


if __name__ == "__main__":
    app(prog_name="python -m local")
