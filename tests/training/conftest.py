"""A tiny base model, and the folders of one training job."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.training.tiny import pairs, rows, save_tiny_model, write_rows


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny base model's folder."""
    return save_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def sigterm() -> Iterator[None]:
    """A run installs its handler; tests get theirs back."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def job(folder: Path, base: Path, *, count: int = 24, **hyperparameters: Any) -> dict[str, str]:
    """The environment of a job in `folder`, as a platform sets it; preference rows for dpo."""
    settings = {"epochs": 3, "learning_rate": 0.01, "lora_layers": 2, "batch_size": 4}
    make = pairs if hyperparameters.get("method") == "dpo" else rows
    write_rows(folder / "train/train.jsonl", make(count))
    write_rows(folder / "validation/validation.jsonl", make(4))
    return {
        "SM_HPS": json.dumps(settings | hyperparameters),
        "SM_CHANNEL_TRAIN": str(folder / "train"),
        "SM_CHANNEL_VALIDATION": str(folder / "validation"),
        "SM_CHANNEL_MODEL": str(base),
        "SM_MODEL_DIR": str(folder / "model"),
        "SM_CHECKPOINT_DIR": str(folder / "checkpoints"),
        "SM_OUTPUT_DIR": str(folder / "output"),
    }
