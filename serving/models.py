"""Which models there are: an id either names one of them or is refused. Nothing is aliased."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from serving.embeddings import EMBEDDING_MODEL
from serving.errors import ApiError, model_not_found
from serving.judge import JUDGE_MODEL
from serving.store import JobStore, Lifecycle, Record, now, write_json
from serving.weights import BASE_MODEL


@dataclass(frozen=True)
class ChatModel:
    """A model that answers chats: the base model, with an adapter's folder or without."""

    id: str
    adapter: Path | None
    created: int
    parent: str | None = None


class Catalogue:
    """Every model id: the built-in ones, what jobs have trained, and what was loaded by path."""

    def __init__(self, state: Path, jobs: JobStore) -> None:
        self._jobs = jobs
        self._lifecycle = Lifecycle(state)
        self._file = state / "loaded.json"
        self._loaded: dict[str, Record] = {}
        if self._file.exists():
            self._loaded = json.loads(self._file.read_text())
        self._started = now()

    def all(self) -> list[Record]:
        """All model objects; a job's checkpoints answer too, but are listed with the job."""
        chat = [self._find(BASE_MODEL)]
        chat += [self._find(job["fine_tuned_model"]) for job in self._tuned()]
        chat += [self._find(name) for name in self._loaded]
        others = [ChatModel(name, None, self._started) for name in (JUDGE_MODEL, EMBEDDING_MODEL)]
        return [self._described(model) for model in chat + others]

    def get(self, model_id: str) -> Record:
        """One model object; a model past its shutdown date still has one, as at OpenAI.

        Raises:
            ApiError: 404, model_not_found.
        """
        if model_id in (JUDGE_MODEL, EMBEDDING_MODEL):
            return self._described(ChatModel(model_id, None, self._started))
        return self._described(self._find(model_id))

    def _described(self, model: ChatModel) -> Record:
        ends = self._lifecycle.shutdown_date(model.id, model.parent)
        return describe(model) | {"shutdown_date": ends}

    def chat(self, model_id: str) -> ChatModel:
        """The chat model of an id.

        Raises:
            ApiError: 404, model_not_found, also for one past its shutdown date, or its base's; 400
            for a model that does not chat.
        """
        model = self._find(model_id)
        if self._lifecycle.ended(model.id, model.parent):
            raise model_not_found(model_id)
        return model

    def _find(self, model_id: str) -> ChatModel:
        if model_id == BASE_MODEL:
            return ChatModel(model_id, None, self._started)
        if model_id == EMBEDDING_MODEL:
            raise ApiError(
                400, f"{model_id} is not a chat model; use v1/embeddings.", param="model"
            )
        if model_id in self._loaded:
            loaded = self._loaded[model_id]
            return ChatModel(model_id, Path(loaded["path"]), loaded["created"], BASE_MODEL)
        for job in self._tuned():
            tuned, folder = job["fine_tuned_model"], self._jobs.folder(job["id"])
            adapter = folder / "model"
            if model_id.startswith(f"{tuned}:ckpt-"):
                adapter = folder / "checkpoints/adapters" / model_id.removeprefix(f"{tuned}:ckpt-")
            elif model_id != tuned:
                continue
            if (adapter / "adapter_config.json").exists():
                return ChatModel(model_id, adapter, job["finished_at"], BASE_MODEL)
        raise model_not_found(model_id)

    def delete(self, model_id: str) -> None:
        """Delete a fine-tuned model with its checkpoints.

        Raises:
            ApiError: 404, model_not_found; 403 for a model that no job has trained.
        """
        self.get(model_id)
        for job in self._tuned():
            if job["fine_tuned_model"] == model_id:
                self._jobs.update(job["id"], unless=(), model_deleted=True)
                shutil.rmtree(self._jobs.folder(job["id"]) / "model")
                shutil.rmtree(self._jobs.folder(job["id"]) / "checkpoints", ignore_errors=True)
                return
        raise ApiError(
            403, f"Only fine-tuned models can be deleted, not {model_id}.", param="model"
        )

    def load(self, name: str, path: Path, *, replace: bool = False) -> None:
        """Serve the adapter in a folder under a name, as vLLM's endpoint of that name does.

        Raises:
            ApiError: 400, the name is taken; 404, the folder holds no adapter.
        """
        taken = name in (BASE_MODEL, JUDGE_MODEL, EMBEDDING_MODEL)
        if taken or (name in self._loaded and not replace):
            raise ApiError(400, f"The lora adapter '{name}' has already been loaded.")
        if not (path / "adapter_config.json").exists():
            raise ApiError(404, f"No adapter found for '{name}': {path} has no adapter_config.json")
        self._loaded[name] = {"path": str(path.resolve()), "created": now()}
        write_json(self._file, self._loaded)

    def unload(self, name: str) -> None:
        """Forget a name given to `load`.

        Raises:
            ApiError: 404, the name was not loaded.
        """
        if name not in self._loaded:
            raise ApiError(404, f"The lora adapter '{name}' cannot be found.")
        del self._loaded[name]
        write_json(self._file, self._loaded)

    def _tuned(self) -> list[Record]:
        jobs = self._jobs.all()
        return [job for job in jobs if job["fine_tuned_model"] and not job.get("model_deleted")]


def describe(model: ChatModel) -> Record:
    """A model object in OpenAI's form, with vLLM's `root` and `parent`."""
    return {
        "id": model.id,
        "object": "model",
        "created": model.created,
        "owned_by": "dropforge",
        "root": str(model.adapter) if model.adapter else model.id,
        "parent": model.parent,
    }
