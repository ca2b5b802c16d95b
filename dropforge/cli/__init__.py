"""The `dropforge` command: what analysts and ops do, against AWS or the local default alike."""

from dropforge.cli.app import app

__all__ = ["app"]
