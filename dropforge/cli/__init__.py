"""The `dropforge` command: what analysts and ops do, against AWS or the local default alike."""

from __future__ import annotations

from botocore.exceptions import BotoCoreError, ClientError
from typer import Exit

from dropforge.cli.app import app
from dropforge.cli.deployment import explain_aws, fail
from dropforge.errors import DropforgeError

__all__ = ["app", "main"]


def main() -> None:
    """Run the command; what AWS or the domain refuses ends it with a sentence and status 1."""
    try:
        try:
            app()
        except DropforgeError as error:
            fail(str(error))
        except (BotoCoreError, ClientError) as error:
            fail(explain_aws(error))
    except Exit as end:
        raise SystemExit(end.exit_code) from None
