"""Who answers a project's customers: the champion, and the challenger of a canary beside it.

Both stand in one item, so that who answers changes by one conditional write. Every move takes the
item's next revision, and is written in one transaction with its history `move#<revision>` and with
what becomes of the versions it concerns: of any number of simultaneous movers one wins a revision,
and the others raise PromotionError.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dropforge.backends.registry import PROMOTED, Item, Registry
from dropforge.backends.registry import ROLLED_BACK as ROLLED_BACK
from dropforge.errors import PromotionError

BASE = "base"
"""The version that the base model goes by where it holds the champion's place."""
_TRIES = 8
_WHO_ANSWERS = ("version", "backend", "model_id")


def promote(
    registry: Registry,
    project: str,
    model: Mapping[str, Any],
    *,
    who: str,
    why: str,
    at: float,
    run_id: str | None = None,
    from_canary: bool = False,
) -> Item:
    """Make a model version the champion; ends any canary. Returns the pointer as it is now.

    Args:
        model: its version, backend and model_id.
        who: a person, or what acts by itself.
        at: seconds since the epoch.
        run_id: the run that does it, see `moved_by`.
        from_canary: only while a canary of this version runs.

    Raises:
        PromotionError: that canary is over, or somebody else moved the pointer at the same moment.
    """
    before = registry.champion(project)
    if from_canary and not is_running(before, str(model["version"])):
        raise PromotionError(f"The canary of {model['version']} is over.")
    item = _answers(model, previous=_previous(before, str(model["version"])))
    standing = {str(model["version"]): PROMOTED}
    return _move(
        registry, project, before, item, "promote", standing, run_id, who=who, why=why, at=at
    )


def roll_back(registry: Registry, project: str, *, who: str, why: str, at: float) -> Item:
    """Put the previous champion back, and mark this one as rolled back. Returns the pointer.

    Raises:
        PromotionError: there is no previous champion, it was rolled back itself, or somebody else
            moved the pointer at the same moment.
    """
    before = registry.champion(project)
    if before is None or not before.get("previous"):
        raise PromotionError(f"{project} has no previous champion to go back to.")
    target = str(before["previous"])
    known = _known(registry, project, target)
    if known is None or known.get("standing") == ROLLED_BACK:
        raise PromotionError(
            f"The previous champion {target} was itself rolled back, or is not known any more.",
            hint=f"Choose a version of `dropforge models -p {project}` and promote it.",
        )
    item = _answers(known, previous=before["version"])
    standing = {str(before["version"]): ROLLED_BACK}
    return _move(registry, project, before, item, "rollback", standing, who=who, why=why, at=at)


def start_canary(
    registry: Registry,
    project: str,
    canary: Mapping[str, Any],
    *,
    base: Mapping[str, Any] | None,
    who: str,
    why: str,
    at: float,
) -> Item:
    """Let a challenger at a share of the traffic. Returns the pointer.

    Args:
        canary: version, backend, model_id, share, shadow, step, run_id, slow_seconds and sticky.
        base: backend and model_id of the model that answers where there is no champion yet.

    Raises:
        PromotionError: another canary runs, nothing can answer beside the challenger, or somebody
            else moved the pointer at the same moment.
    """
    before = registry.champion(project)
    if before and before.get("canary"):
        raise PromotionError(
            f"A canary of {project} is running already, of {before['canary']['version']}.",
            hint=f"Wait for its end, or `dropforge canary -p {project} --stop`.",
        )
    if before is None and base is None:
        raise PromotionError(f"{project} has no champion, and its base model cannot be asked.")
    holder = before or {**(base or {}), "version": BASE}
    begun = {**canary, "id": _next(before), "step_at": at, "started_at": at}
    item = {**_answers(holder, previous=holder.get("previous")), "canary": begun}
    run_id = canary["run_id"]
    return _move(registry, project, before, item, "canary", {}, run_id, who=who, why=why, at=at)


def step_canary(
    registry: Registry,
    project: str,
    version: str,
    *,
    step: int,
    share: float,
    who: str,
    why: str,
    at: float,
) -> Item:
    """Give the challenger of a running canary the next share. Returns the pointer.

    Raises:
        PromotionError: the canary is over, or somebody else moved the pointer at the same moment.
    """
    before = registry.champion(project)
    if before is None or not is_running(before, version):
        raise PromotionError(f"The canary of {version} is over.")
    stepped = {**before["canary"], "step": step, "share": share, "shadow": False, "step_at": at}
    item = {**_answers(before, previous=before["previous"]), "canary": stepped}
    return _move(registry, project, before, item, "step", {}, who=who, why=why, at=at)


def end_canary(
    registry: Registry,
    project: str,
    version: str,
    *,
    who: str,
    why: str,
    at: float,
    rolled_back: bool = True,
) -> bool:
    """Give all traffic back to the champion; False where no canary of this version runs.

    Args:
        rolled_back: whether the pipeline is not to try this version again by itself.

    Raises:
        PromotionError: somebody else moved the pointer at the same moment.
    """
    before = registry.champion(project)
    if before is None or not is_running(before, version):
        return False
    item = _answers(before, previous=before["previous"])
    standing = {version: ROLLED_BACK} if rolled_back else {}
    _move(registry, project, before, item, "canary ended", standing, who=who, why=why, at=at)
    return True


def stop_canary(
    registry: Registry,
    project: str,
    *,
    who: str,
    why: str,
    at: float,
    run_id: str | None = None,
    rolled_back: bool = False,
) -> str | None:
    """End whatever canary runs, also where others move the pointer at the same moment.

    Args:
        run_id: only a canary of this run.

    Returns:
        the version whose canary was ended; None where there was none.

    Raises:
        PromotionError: the pointer was moved by others again and again.
    """
    for left in reversed(range(_TRIES)):
        canary = (registry.champion(project) or {}).get("canary")
        if not canary or run_id not in (None, canary["run_id"]):
            return None
        version = str(canary["version"])
        told: dict[str, Any] = {"who": who, "why": why, "at": at, "rolled_back": rolled_back}
        try:
            if end_canary(registry, project, version, **told):
                return version
        except PromotionError:
            if not left:
                raise
    return None


def is_running(pointer: Mapping[str, Any] | None, version: str) -> bool:
    """Whether a pointer has a canary of this version."""
    canary = (pointer or {}).get("canary") or {}
    return canary.get("version") == version


def moved_by(registry: Registry, project: str, run_id: str) -> list[Item]:
    """What a run did to the pointer so far: a stage that is tried again does it no second time."""
    return [move for move in registry.items(project, "move#") if move.get("run_id") == run_id]


def _known(registry: Registry, project: str, version: str) -> Item | None:
    """A version that answered once: as a model, or as the history has it (the base model)."""
    model = registry.model(project, version)
    if model is not None:
        return model
    moves = [m for m in registry.items(project, "move#") if m["version"] == version]
    return moves[-1] if moves else None


def _answers(holder: Mapping[str, Any], *, previous: str | None) -> Item:
    return {**{name: holder[name] for name in _WHO_ANSWERS}, "previous": previous}


def _previous(before: Item | None, version: str) -> str | None:
    """The version before; a champion that is promoted again keeps the one it had."""
    if before is None:
        return None
    previous = before["previous"] if before["version"] == version else before["version"]
    return None if previous is None else str(previous)


def _next(before: Item | None) -> int:
    return (int(before["revision"]) if before else 0) + 1


def _move(
    registry: Registry,
    project: str,
    before: Item | None,
    item: Item,
    action: str,
    standing: Mapping[str, str],
    run_id: str | None = None,
    **about: Any,
) -> Item:
    """Write the item as the revision after `before`; `about` is who, why and at."""
    moved = {**item, **about, "revision": _next(before)}
    move = {"action": action, **({"run_id": run_id} if run_id else {})}
    told = {version: {"state": state, **about} for version, state in standing.items()}
    told.pop(BASE, None)
    if not registry.write_pointer(project, moved, move, standing=told):
        raise PromotionError(
            f"Somebody else moved the champion of {project} at the same moment.",
            hint=f"Look at `dropforge models -p {project}` and try again.",
        )
    return moved
