from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from serving.engine import Engine
from training import train
from training.train import Hyperparameters, TrainingError, find_recipe, read_hyperparameters

RECIPES = Path(__file__).resolve().parents[2] / "training/recipes"


def read(given: dict[str, Any]) -> Hyperparameters:
    return read_hyperparameters({"SM_HPS": json.dumps(given)}, Path("/nowhere"))


def test_strings_and_numbers_are_alike() -> None:
    strings = read({"epochs": "5", "learning_rate": "1e-3", "gradient_checkpointing": "true"})
    numbers = read({"epochs": 5, "learning_rate": 0.001, "gradient_checkpointing": True})
    assert strings == numbers
    assert (strings.epochs, strings.learning_rate) == (5, 0.001)


def test_the_platforms_own_file_and_names_are_read(tmp_path: Path) -> None:
    file = tmp_path / "input/config/hyperparameters.json"
    file.parent.mkdir(parents=True)
    file.write_text('{"epochs": "2", "base_model": "\\"own\\"", "sagemaker_program": "train.py"}')
    given = read_hyperparameters({}, tmp_path)
    assert (given.epochs, given.base_model) == (2, "own")


def test_an_unknown_hyperparameter_is_named_with_the_valid_ones() -> None:
    with pytest.raises(TrainingError) as error:
        read({"learning_rat": "1"})
    assert '"learning_rat"' in str(error.value)
    assert 'did you mean "learning_rate"?' in str(error.value)
    assert "lora_rank" in str(error.value)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"epochs": "many"}, '"epochs" must be a whole number from 1 to 100'),
        ({"epochs": 1.5}, '"epochs" must be a whole number'),
        ({"epochs": 0}, "from 1 to 100"),
        ({"epochs": True}, '"epochs"'),
        ({"learning_rate": "nan"}, '"learning_rate" must be a number'),
        ({"gradient_checkpointing": "perhaps"}, "must be true or false"),
        ({"schedule": "random"}, "cosine, linear, constant"),
        ({"method": "ppo"}, '"method" must be one of sft, dpo'),
        ({"packing": 1}, "auto, true, false"),
        ({"adapter": "qlora", "fsdp": "true"}, "adapter qlora or fsdp, not both"),
    ],
)
def test_a_wrong_value_is_named_with_what_would_be_right(given: dict[str, Any], said: str) -> None:
    with pytest.raises(TrainingError, match=said):
        read(given)


def test_a_recipe_goes_before_defaults_and_after_what_is_asked() -> None:
    recipe = find_recipe("smollm2-135m-instruct")["hyperparameters"]
    given = read({"base_model": "smollm2-135m-instruct", "epochs": 9})
    assert (given.epochs, given.lora_layers) == (9, recipe["lora_layers"])
    assert read({"base_model": "another"}).lora_layers == Hyperparameters.lora_layers


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_recipe_is_valid_and_found_by_name_and_hub_id(path: Path) -> None:
    recipe = find_recipe(path.stem)
    assert find_recipe(recipe["hub_id"]) == recipe
    read({"base_model": path.stem})


def test_packing_is_asked_for_in_any_spelling_and_left_to_the_device() -> None:
    assert [read({"packing": value}).packing for value in (True, "true", "False", "auto")] == [
        "true",
        "true",
        "false",
        "auto",
    ]
    assert not train.packs(read({}), torch.device("cpu"))
    assert train.packs(read({}), torch.device("cuda"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("hub_id: a/b\nhyperparameter: {}\n", 'did you mean "hyperparameters"'),
        ("hub_id: a/b\nhyperparameters: {epoch: 3}\n", 'did you mean "epochs"'),
        ("hub_id: a/b\nhyperparameters: {epochs: none}\n", '"epochs" must be a whole number'),
        ("hyperparameters: {}\n", "hub_id"),
        ("hub_id: [\n", "while parsing"),
    ],
)
def test_a_mistake_in_a_recipe_names_its_file_and_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, said: str
) -> None:
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes/mine.yaml").write_text(text)
    monkeypatch.setattr(train, "__file__", str(tmp_path / "train.py"))
    with pytest.raises(TrainingError, match=said) as error:
        read({"base_model": "mine"})
    assert str(error.value).startswith("recipes/mine.yaml: ")


def test_help_tells_every_hyperparameter_with_default_and_limits(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert train.main(["--help"]) == 0
    told = capsys.readouterr().out
    for name, field in train.SETTINGS.items():
        default = str(field.default).lower() if isinstance(field.default, bool) else field.default
        assert f"  {name} = {default}" in told
        assert field.metadata["says"] in told
    assert "epochs = 3   [1 to 100]" in told
    assert "method = sft   [sft | dpo]" in told
    assert "SM_CHANNEL_TRAIN" in told


def test_every_number_has_limits_that_hold_its_default() -> None:
    for field in train.SETTINGS.values():
        if type(field.default) in (int, float):
            low, high = field.metadata["limits"]
            assert low <= field.default <= high
        elif field.metadata["choices"]:
            assert field.default in field.metadata["choices"]


@pytest.mark.parametrize(
    ("flags", "fast"),
    [
        ("fpu avx2 fma", torch.float32),
        ("avx512f avx512_vnni", torch.float32),
        ("avx512f avx512_bf16 amx_bf16", torch.bfloat16),
        ("", torch.float32),
    ],
)
def test_a_cpu_multiplies_in_bf16_only_where_it_has_instructions_for_it(
    flags: str, fast: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "cpu_flags", lambda: flags)
    assert train.cpu_dtype() == fast
    assert Engine(Path, threads=1).dtype == fast
