"""Where Dropforge is deployed: found through one SSM parameter of the account and region."""

from __future__ import annotations

import os
from functools import cached_property
from typing import NoReturn

import boto3
import msgspec
import typer
from botocore.exceptions import BotoCoreError, ClientError
from rich.console import Console
from rich.text import Text

from dropforge.backends.registry import Item, Registry
from dropforge.backends.store import Store
from dropforge.backends.tokens import Plans, Tokens
from dropforge.errors import DropforgeError

PARAMETER = "/dropforge/deployment"
errors = Console(stderr=True, markup=False, emoji=False)


def fail(message: str) -> NoReturn:
    """Say what is wrong and end with status 1."""
    errors.print(Text.assemble(("error:", "bold red"), f" {message}"), soft_wrap=True)
    raise typer.Exit(1)


def explain_aws(error: BotoCoreError | ClientError) -> str:
    """What AWS or its client said, and what to do about it."""
    return (
        f"AWS cannot be used: {error} "
        "Give --profile and --region, or `source .local/env` for the local default."
    )


class Outputs(msgspec.Struct, frozen=True):
    """What the stacks tell about themselves."""

    bucket: str
    table: str
    state_machine_arn: str
    api_url: str
    dashboard: str = ""
    plans: Plans = Plans()
    authorizer_ttl_s: int = 0


class Deployment:
    """One deployment, as the caller's credentials see it."""

    @cached_property
    def outputs(self) -> Outputs:
        ssm = boto3.client("ssm")
        try:
            value = ssm.get_parameter(Name=PARAMETER)["Parameter"]["Value"]
        except ssm.exceptions.ParameterNotFound:
            fail(
                "Dropforge is not deployed in this account and region. "
                "Run `cdk deploy --all`, or `make up` for the local default."
            )
        return msgspec.json.decode(value, type=Outputs)

    @cached_property
    def store(self) -> Store:
        return Store(self.outputs.bucket)

    @cached_property
    def registry(self) -> Registry:
        return Registry(self.outputs.table)

    @cached_property
    def tokens(self) -> Tokens:
        return Tokens(self.outputs.table, self.outputs.plans)

    @property
    def api_url(self) -> str:
        """The HTTPS API; DROPFORGE_API_URL names another address of it."""
        return os.environ.get("DROPFORGE_API_URL", self.outputs.api_url).rstrip("/")

    def project(self, name: str | None) -> str:
        """The named project, or the only one there is."""
        known = self.registry.projects()
        if name is None:
            if len(known) == 1:
                return known[0]
            if not known:
                fail("There is no project yet. Start with `dropforge drop FILE --config FILE`.")
            fail(f"Which project? Give --project: {', '.join(known)}.")
        if name not in known:
            fail(f"There is no project {name!r}; there are: {', '.join(known) or 'none'}.")
        return name

    def model(self, project: str, version: str) -> Item:
        """A model version by its name or the beginning of it."""
        models = [m for m in self.registry.models(project) if str(m["version"]).startswith(version)]
        if len(models) != 1:
            known = ", ".join(m["version"] for m in self.registry.items(project, "model#"))
            fail(f"{version!r} names {len(models)} versions of {project}; there are: {known}.")
        return models[0]

    def evaluations(self, project: str) -> dict[str, Item]:
        """The newest evaluation of each version."""
        listed = sorted(self.registry.items(project, "evaluation#"), key=lambda e: e["at"])
        return {str(e["version"]): e for e in listed}


def told(error: DropforgeError) -> NoReturn:
    """End with a domain error's own words."""
    fail(str(error))
