"""The engine on the tiny model in double precision, where batching must not change a single token:
two tokens are never so near that its roundings decide.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from serving.batch import Generation
from serving.engine import Engine
from tests.training.tiny import save_tiny_model

pytestmark = pytest.mark.filterwarnings("ignore:.*gradient_checkpointing:FutureWarning")
PROMPTS = [[5, 9, 30], [7] * 11, [40, 41, 42, 43, 44], [12, 300]]


class Answer:
    """Collects what the engine says about one request."""

    def __init__(
        self, engine: Engine, prompt: list[int], adapter: Path | None = None, **how: float
    ) -> None:
        self.tokens: list[int] = []
        self.error: Exception | None = None
        self._over = threading.Event()
        self.generation = Generation(
            adapter=adapter,
            prompt=prompt,
            max_tokens=int(how.get("max_tokens", 20)),
            temperature=how.get("temperature", 0.0),
            top_p=how.get("top_p", 1.0),
            seed=int(how.get("seed", 1)),
            on_token=self._take,
            on_error=self._fail,
        )
        engine.submit(self.generation)

    def _take(self, token: int | None) -> None:
        if token is None:
            self._over.set()
        else:
            self.tokens.append(token)

    def _fail(self, error: Exception) -> None:
        self.error = error
        self._over.set()

    def wait(self) -> list[int]:
        assert self._over.wait(60)
        return self.tokens


@pytest.fixture(scope="module")
def endless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny base model that goes on until it is stopped."""
    return save_tiny_model(tmp_path_factory.mktemp("endless"), endless=True)


@pytest.fixture(scope="module")
def engine(endless: Path) -> Iterator[Engine]:
    engine = Engine(lambda: endless, threads=1, dtype=torch.float64)
    engine.start()
    engine.ready.wait()
    assert engine.failure is None
    yield engine
    engine.stop()


@pytest.fixture(scope="module")
def adapters(endless: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two adapters that change what the base model says."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    folders = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        base = AutoModelForCausalLM.from_pretrained(endless)
        config = LoraConfig(r=4, target_modules=["q_proj", "down_proj"], init_lora_weights=False)
        folder = tmp_path_factory.mktemp(f"adapter{seed}")
        get_peft_model(base, config).save_pretrained(folder)
        folders.append(folder)
    return folders


def test_requests_that_join_and_leave_a_batch_get_what_they_get_alone(engine: Engine) -> None:
    lengths = [30, 5, 17, 24]
    alone = [Answer(engine, p, max_tokens=n).wait() for p, n in zip(PROMPTS, lengths, strict=True)]
    together = []
    for prompt, length in zip(PROMPTS, lengths, strict=True):
        together.append(Answer(engine, prompt, max_tokens=length))
        time.sleep(0.02)
    assert [answer.wait() for answer in together] == alone


def test_adapters_and_the_base_model_do_not_disturb_each_other(
    engine: Engine, adapters: list[Path]
) -> None:
    models = [None, *adapters]
    alone = [[Answer(engine, prompt, model).wait() for model in models] for prompt in PROMPTS]
    assert all(len({tuple(tokens) for tokens in answers}) == 3 for answers in alone)
    together = [[Answer(engine, prompt, model) for model in models] for prompt in PROMPTS]
    assert [[answer.wait() for answer in answers] for answers in together] == alone


def test_more_requests_than_a_batch_holds_are_all_answered(engine: Engine) -> None:
    answers = [Answer(engine, PROMPTS[i % 4], max_tokens=4) for i in range(40)]
    assert {len(answer.wait()) for answer in answers} == {4}


def test_a_seed_repeats_a_draw_whatever_else_is_in_the_batch(engine: Engine) -> None:
    def drawn(seed: int) -> Answer:
        return Answer(engine, PROMPTS[0], temperature=1.0, top_p=0.9, seed=seed)

    first = drawn(3).wait()
    others = [drawn(seed) for seed in (4, 3, 5)]
    assert [answer.wait() == first for answer in others] == [False, True, False]


def test_a_cancelled_request_ends_and_the_others_go_on(engine: Engine) -> None:
    cancelled, other = (Answer(engine, PROMPTS[1], max_tokens=200) for _ in range(2))
    cancelled.generation.cancelled = True
    assert len(cancelled.wait()) < 200
    assert len(other.wait()) == 200


def test_a_broken_adapter_fails_its_own_request_alone(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    broken, whole = Answer(engine, PROMPTS[0], tmp_path), Answer(engine, PROMPTS[0])
    broken.wait()
    assert broken.error is not None
    assert len(whole.wait()) == 20
    assert len(Answer(engine, PROMPTS[0]).wait()) == 20


def test_an_adapter_whose_folder_is_filled_anew_is_loaded_anew(
    engine: Engine, adapters: list[Path], tmp_path: Path
) -> None:
    for adapter in adapters:
        shutil.copytree(adapter, tmp_path / "adapter", dirs_exist_ok=True)
        (tmp_path / "adapter/adapter_config.json").touch()
        said = Answer(engine, PROMPTS[0], tmp_path / "adapter").wait()
        assert said == Answer(engine, PROMPTS[0], adapter).wait()


def test_an_adapter_trained_under_another_chat_template_is_refused(
    engine: Engine, adapters: list[Path]
) -> None:
    probe = '{"prompt_probe": {"messages": [{"role": "user", "content": "x"}], "token_ids": [1]}}'
    (adapters[1] / "training.json").write_text(probe)
    (adapters[1] / "adapter_config.json").touch()
    answer = Answer(engine, PROMPTS[0], adapters[1])
    answer.wait()
    assert "another chat template" in str(answer.error)
