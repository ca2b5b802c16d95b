"""Which model answers a chat request, and what its server is asked.

Reads the project's `champion`, `config` and `model#<version>` items of the registry. Writes
nothing. Pure, and imports nothing but msgspec: a person waits for the chat's cold start.
"""

from __future__ import annotations

from typing import Any, Protocol

import msgspec

from dropforge.providers import Backend, is_hosted
from dropforge.serve import ModelNotFoundError, NoChampionError, UnavailableError
from dropforge.serve.arms import Arm, Asker, Challenger
from dropforge.serve.options import CollectOptions, ServedModel, ServeOptions

MAX_VERSION_CHARACTERS = 200


class Champion(msgspec.Struct, frozen=True):
    """The registry item `champion`: the version that answers.

    Version "base" is the model before training, which answers beside a project's first challenger.
    `canary` is who is being tried beside it.
    """

    version: str
    backend: Backend
    model_id: str
    previous: str | None = None
    canary: Challenger | None = None


class ServedProject(msgspec.Struct, frozen=True):
    """The registry item `config`, as far as answering needs it."""

    backend: Backend
    model: str = ""
    base_model_id: str | None = None
    system_prompt: str | None = None
    serve: ServeOptions = ServeOptions()
    collect: CollectOptions | None = None


class ModelVersion(msgspec.Struct, frozen=True):
    """A registry item `model#<version>`. Without a `model_id` it is not ready to answer.

    Attributes:
        base_model_id: what answered before training, under the server's own name for it.
        created_at: seconds since the epoch.
    """

    version: str
    backend: Backend
    model_id: str | None = None
    base_model_id: str | None = None
    created_at: float = 0


class Registry(Protocol):
    """What routing asks of the registry; a project, champion or version can be absent."""

    def champion(self, project: str) -> Champion | None: ...
    def project(self, project: str) -> ServedProject | None: ...
    def version(self, project: str, version: str) -> ModelVersion | None: ...


class Route(msgspec.Struct, frozen=True):
    """Which model answers, and why that one.

    Attributes:
        canary: the one that this request is a part of; it is counted there.
        fallback: who answers where this model does not.
        replaces: the arm in whose place this route answers, as its fallback.
        named: it was asked for by its own name: nobody answers in its place.
    """

    project: str
    version: str
    arm: Arm
    backend: Backend
    model_id: str
    canary: Challenger | None = None
    fallback: Route | None = None
    replaces: Arm | None = None
    named: bool = False

    @property
    def served_as(self) -> tuple[str, str]:
        """What tells two models apart, whatever they are called: the backend and its name there."""
        return self.backend, self.model_id

    @property
    def model(self) -> str:
        """The name the caller sees: `<project>/<version>`; always a version, never an alias."""
        return f"{self.project}/{self.version}"


def resolve(
    name: str | None, project: str, registry: Registry, asker: Asker | None = None
) -> Route:
    """The route for a model name, as a caller whose token belongs to `project` may name it.

    `<project>`, or no name, means who answers now: the champion, or while a canary runs the
    challenger for its share of the askers. What follows a slash is always that model:
    `<project>/champion`, `<project>/challenger`, `<project>/base` (the model before training),
    `<project>/<version>`; such a request is no part of a canary.

    Args:
        asker: None where nobody asks anything: the champion then stands for the project.

    Raises:
        NoChampionError: the champion is asked for, and nothing was promoted yet.
        ModelNotFoundError: any other name, another project's included: whether that exists is
            not told.
    """
    scope, _, choice = (name or project).partition("/")
    if scope != project or len(choice) > MAX_VERSION_CHARACTERS:
        raise _not_found(name)
    if choice in ("", "champion", "challenger"):
        champion = registry.champion(project)
        if choice == "challenger":
            return _challenger(project, champion)
        if champion is None:
            raise _no_champion(project)
        return _live(project, champion, asker if not choice else None, named=bool(choice))
    if choice == "base":
        if base := _base(project, registry):
            return base
    elif (found := registry.version(project, choice)) and found.model_id:
        return Route(project, found.version, "pinned", found.backend, found.model_id)
    raise _not_found(name)


def _live(project: str, champion: Champion, asker: Asker | None, *, named: bool) -> Route:
    """The champion, or the challenger where a canary runs and it takes this asker."""
    canary = champion.canary
    about = (champion.backend, champion.model_id)
    if canary is None or asker is None:
        arm: Arm = "pinned" if canary and named else "champion"
        return Route(project, champion.version, arm, *about, named=named)
    if not canary.takes(asker.subject(canary.sticky)):
        return Route(project, champion.version, "champion", *about, canary)
    instead = Route(project, champion.version, "champion", *about, canary, replaces="challenger")
    tried = (canary.backend, canary.model_id)
    return Route(project, canary.version, "challenger", *tried, canary, instead)


def _challenger(project: str, champion: Champion | None) -> Route:
    if champion is None or champion.canary is None:
        raise ModelNotFoundError(
            f"Project `{project}` has no challenger: no canary is running.", param="model"
        )
    canary = champion.canary
    return Route(project, canary.version, "pinned", canary.backend, canary.model_id)


def _no_champion(project: str) -> NoChampionError:
    return NoChampionError(
        f"Project `{project}` has no promoted model yet.",
        hint=f"Drop an export under exports/{project}/ and watch `dropforge status`, "
        f"or ask for the model `{project}/base`.",
        param="model",
    )


def _base(project: str, registry: Registry) -> Route | None:
    """The model before training: as configured, or else the one the champion came from."""
    served = registry.project(project)
    if served is None:
        return None
    model_id = served.base_model_id or (served.model if is_hosted(served.backend) else None)
    if not model_id and (champion := registry.champion(project)):
        version = registry.version(project, champion.version)
        model_id = version.base_model_id if version else None
    return Route(project, "base", "base", served.backend, model_id) if model_id else None


def _not_found(name: str | None) -> ModelNotFoundError:
    return ModelNotFoundError(
        f"The model `{name}` does not exist or you do not have access to it.", param="model"
    )


def has_fallbacks(route: Route, options: ServeOptions, registry: Registry) -> bool:
    """Whether `fallbacks` may find one, as far as the champion and the project's settings tell."""
    if route.arm != "champion" or route.named:
        return False
    for choice in options.fallback:
        if isinstance(choice, ServedModel):
            return True
        if choice == "previous":
            champion = registry.champion(route.project)
            if champion and champion.previous not in (None, route.version):
                return True
        elif served := registry.project(route.project):
            model_id = served.base_model_id or (served.model if is_hosted(served.backend) else None)
            if (served.backend, model_id) != route.served_as:
                return True
    return False


def fallbacks(route: Route, options: ServeOptions, registry: Registry) -> list[Route]:
    """Who answers in place of a champion that does not, in the project's order.

    Nobody answers for a model that was asked for by its own name. What cannot be asked is left out,
    and so is what the registry does not tell now: there is no time to wait for it.
    """
    if route.arm != "champion" or route.named:
        return []
    found: list[Route] = []
    known = {route.served_as}
    for choice in options.fallback:
        try:
            other = _fallback(choice, route.project, registry)
        except UnavailableError:
            continue
        if other and other.served_as not in known:
            known.add(other.served_as)
            found.append(other)
    return found


def _fallback(choice: str | ServedModel, project: str, registry: Registry) -> Route | None:
    """A model as a fallback. One that has no version answers as `<project>/fallback`."""
    if isinstance(choice, ServedModel):
        version, backend, model_id = "fallback", choice.backend, choice.model
    elif choice == "base" or (previous := _previous(project, registry)) == "base":
        base = _base(project, registry)
        if base is None:
            return None
        version, backend, model_id = base.version, base.backend, base.model_id
    else:
        before = registry.version(project, previous) if previous else None
        if before is None or not before.model_id:
            return None
        version, backend, model_id = before.version, before.backend, before.model_id
    return Route(project, version, "fallback", backend, model_id, replaces="champion")


def _previous(project: str, registry: Registry) -> str | None:
    champion = registry.champion(project)
    return champion.previous if champion else None


def upstream_payload(
    fields: dict[str, Any],
    route: Route,
    system_prompt: str | None,
    *,
    stream: bool = False,
    output_tokens: int | None = None,
) -> dict[str, Any]:
    """What the model's server is asked: the caller's fields, the server's name for the model.

    The project's system prompt goes first where the caller brings none: the model was trained on
    it. A stream is always asked for with its usage. SageMaker gets no `model`: a header names the
    inference component there.

    Args:
        output_tokens: the most that an answer may have, where the caller did not say.
    """
    dropped = ("model", "stream", "stream_options")
    payload = {name: value for name, value in fields.items() if name not in dropped}
    roles = {message["role"] for message in payload["messages"]}
    if system_prompt and not roles & {"system", "developer"}:
        prompt = {"role": "system", "content": system_prompt}
        payload["messages"] = [prompt, *payload["messages"]]
    if is_hosted(route.backend):
        payload["model"] = route.model_id
    if output_tokens is not None:
        new_name = route.backend in ("openai", "azure")
        payload["max_completion_tokens" if new_name else "max_tokens"] = output_tokens
    if stream:
        payload["stream"], payload["stream_options"] = True, {"include_usage": True}
    return payload
