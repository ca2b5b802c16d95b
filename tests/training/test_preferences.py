"""Direct preference optimisation."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.conftest import job
from tests.training.tiny import pairs, write_rows
from training import train
from training.train import Hyperparameters, Pair

CPU = torch.device("cpu")
pytestmark = [
    pytest.mark.usefixtures("sigterm"),
    pytest.mark.filterwarnings("ignore:.*gradient_checkpointing:FutureWarning"),
]
HP = Hyperparameters(method="dpo", lora_layers=2, batch_size=4, dpo_beta=0.3)


@pytest.fixture(scope="module")
def encoded(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    from transformers import AutoTokenizer

    folder = write_rows(tmp_path_factory.mktemp("pairs") / "train.jsonl", pairs(6))
    return train.encode_channel(AutoTokenizer.from_pretrained(tiny), folder, HP).examples


@pytest.fixture
def model(tiny: Path) -> Any:
    """The tiny model, moved away from its base."""
    made = train.load_model(str(tiny), HP, CPU, torch.float32)
    torch.manual_seed(1)
    for name, parameter in train.adapter_parameters(made).items():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    return made.eval()


def log_probability(model: Any, row: train.Row) -> float:
    """The completion's, from the logits of the row alone, one token after the other."""
    ids = [*row.prompt, *row.completion]
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0].double()
    return sum(
        float(logits[at - 1].log_softmax(-1)[ids[at]]) for at in range(len(row.prompt), len(ids))
    )


@pytest.mark.parametrize("packed", [False, True])
def test_the_loss_is_the_one_worked_out_by_hand(
    model: Any, encoded: list[Any], packed: bool
) -> None:
    losses, margins = [], []
    for pair in encoded:
        tuned = [log_probability(model, row) for row in pair.rows]
        with model.disable_adapter():
            base = [log_probability(model, row) for row in pair.rows]
        margin = 0.3 * ((tuned[0] - base[0]) - (tuned[1] - base[1]))
        margins.append(margin)
        losses.append(-math.log(1 / (1 + math.exp(-margin))))
    known = train.keep_references(model, encoded, HP, 2)
    with torch.no_grad():
        loss, told = train.batch_loss(model, known, HP, 2, packed=packed)
    assert loss.item() == pytest.approx(sum(losses), rel=1e-4)
    assert told.tolist() == pytest.approx(
        [sum(losses), sum(margin > 0 for margin in margins), sum(margins)], rel=1e-3, abs=1e-4
    )
    assert max(map(abs, margins)) > 0.01


def test_the_reference_is_the_base_model_whatever_the_adapters_are(
    tiny: Path, model: Any, encoded: list[Any]
) -> None:
    fresh = train.load_model(str(tiny), HP, CPU, torch.float32)
    one, other = (
        [row.reference for row in train.rows_of(train.keep_references(m, encoded, HP, 2))]
        for m in (model, fresh)
    )
    assert one == pytest.approx(other, rel=1e-5)
    start = train.measure(fresh, train.keep_references(fresh, encoded, HP, 2), HP, 2)
    assert start.loss == pytest.approx(math.log(2), abs=1e-5)
    assert start.margin == pytest.approx(0, abs=1e-5)


def test_a_run_makes_the_preferred_answers_likelier_and_tells_so(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options: dict[str, Any] = {"method": "dpo", "epochs": 4, "dtype": "fp32", "keep_best": False}
    assert train.run(job(tmp_path, tiny, **options))
    told = capsys.readouterr().out
    evals = [float(x) for x in re.findall(r"eval_reward_margin=(-?[\d.e-]+)", told)]
    assert evals[0] == pytest.approx(0, abs=1e-4)
    assert evals[-1] > 0.2
    assert re.search(r"step=24 steps=24 train_loss=\S+ train_accuracy=\S+ reward_accuracy=", told)
    assert re.findall(r"eval_loss=\S+ eval_reward_accuracy=(\S+)", told)[-1] == "1"
    metadata = json.loads((tmp_path / "model/training.json").read_text())
    margins = [margin for _, margin in metadata["reward_margins"]]
    assert sum(margins[-6:]) > sum(margins[:6]) + 1
    assert metadata["method"] == "dpo"
    parity = json.loads((tmp_path / "output/data/parity.json").read_text())
    assert len(parity["prompts"]) == 4


@pytest.mark.parametrize(
    "row",
    [
        {"messages": []},
        {"input": {"messages": []}, "preferred_output": [], "non_preferred_output": []},
        pairs(1)[0] | {"preferred_output": [{"role": "user", "content": "x"}]},
        pairs(1)[0] | {"non_preferred_output": [{"role": "assistant", "content": " "}]},
        pairs(1)[0] | {"preferred_output": pairs(1)[0]["preferred_output"] * 2},
    ],
)
def test_a_malformed_preference_is_named_by_its_line(tmp_path: Path, row: dict[str, Any]) -> None:
    folder = write_rows(tmp_path / "train.jsonl", [*pairs(2), row])
    with pytest.raises(train.TrainingError, match="line 3"):
        train.read_conversations(folder, "dpo")


def test_pairs_are_left_out_when_either_answer_is_too_long(tiny: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    long = pairs(1)[0] | {
        "non_preferred_output": [{"role": "assistant", "content": "word " * 3000}]
    }
    folder = write_rows(tmp_path / "train.jsonl", [*pairs(2), long])
    found = train.encode_channel(AutoTokenizer.from_pretrained(tiny), folder, HP)
    assert (len(found.examples), found.too_long) == (2, 1)
    assert all(isinstance(example, Pair) for example in found.examples)
