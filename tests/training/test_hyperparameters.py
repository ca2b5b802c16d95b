from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

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
