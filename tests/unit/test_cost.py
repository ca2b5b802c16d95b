from __future__ import annotations

from typing import Any

import pytest

from dropforge.artifacts import Estimate
from dropforge.cost import check_budget, check_budgets, estimates
from dropforge.errors import OverBudgetError
from dropforge.models import INSTANCES, gpu_hours, known_model
from dropforge.project import ProjectConfig

TOKENS = {"o200k_base": 400_000, "cl100k_base": 500_000}


def config(model: str = "gpt-4.1-mini", **more: Any) -> ProjectConfig:
    return ProjectConfig.model_validate(
        {"backend": "openai", "model": model, "training": {"epochs": 2}, **more}
    )


def own(chosen: ProjectConfig) -> Estimate:
    return estimates(chosen, TOKENS, "ml.g6e.2xlarge")[0]


def test_hosted_training_costs_tokens_times_epochs_times_price() -> None:
    found = own(config("gpt-4.1-mini-2025-04-14"))
    assert (found.provider, found.tokens, found.exact) == ("OpenAI", 800_000, True)
    assert found.usd == pytest.approx(0.8 * 5.0)


def test_tokens_are_counted_by_the_models_own_encoding() -> None:
    assert own(config("gpt-3.5-turbo-0125")).tokens == 1_000_000


def test_own_gpus_cost_hours() -> None:
    found = own(config("llama-3-8b-instruct", backend="sagemaker"))
    machine = INSTANCES["ml.g6e.2xlarge"]
    assert found.provider == "SageMaker"
    assert not found.exact
    assert found.hours == pytest.approx(gpu_hours(found.tokens, 8.0, machine))
    assert found.usd == pytest.approx((found.hours or 0) * machine.usd_per_hour)


def test_gpu_hours_fit_the_published_throughput() -> None:
    """NeMo AutoModel: LoRA of an 8B model on an H100, 12,473 tokens/s at 41 % of the peak."""
    tokens = 12_473 * 3600
    h100 = INSTANCES["ml.p5.4xlarge"]
    training = gpu_hours(tokens, 8.0, h100) - gpu_hours(0, 8.0, h100)
    assert training == pytest.approx(0.41 / 0.3, rel=0.05)


def test_other_providers_stand_beside_the_own_choice() -> None:
    found = estimates(config(), TOKENS)
    assert {e.provider for e in found} == {"OpenAI", "Together", "SageMaker"}
    assert len({(e.provider, e.model, e.note) for e in found}) == len(found)


def test_unknown_model_has_no_price_unless_the_project_gives_one() -> None:
    assert own(config("someones-model")).usd is None
    priced = config("someones-model", budget={"usd_per_million_tokens": 2.5})
    assert own(priced).usd == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("model", "found"),
    [
        ("gpt-4.1-nano-2025-04-14", "gpt-4.1-nano"),
        ("GPT-4.1", "gpt-4.1"),
        ("gpt-4o-mini-2024-07-18", "gpt-4o-mini"),
        ("smollm2-135m-instruct", "smollm2-135m"),
    ],
)
def test_model_is_known_by_the_beginning_of_its_name(model: str, found: str) -> None:
    known = known_model(model)
    assert known is not None
    assert known.prefix == found


def test_together_trains_what_others_train_on_own_gpus() -> None:
    known = known_model("meta-llama/Meta-Llama-3-8B-Instruct")
    assert known is not None
    assert (known.provider, known.usd, known.billions) == ("Together", 0.48, None)
    assert known_model("meta-llama/unheard-of") is None


def test_budget_stops_what_costs_more() -> None:
    with pytest.raises(OverBudgetError, match=r"\$4\.00; the project's budget is \$3\.99"):
        check_budget(
            config(budget={"training_usd": 3.99}), own(config(budget={"training_usd": 3.99}))
        )
    enough = config(budget={"training_usd": 4.0})
    check_budget(enough, own(enough))
    check_budget(config(), own(config()))


def test_budget_with_an_unknown_price_stops_too() -> None:
    unknown = config("someones-model", budget={"training_usd": 1000})
    with pytest.raises(OverBudgetError, match="usd_per_million_tokens"):
        check_budget(unknown, own(unknown))


CHOICES = [
    {"backend": "azure", "model": "gpt-4.1"},
    {"backend": "sagemaker", "model": "llama-3-8b-instruct"},
    {"backend": "sagemaker-serverless", "model": "llama-3-8b-instruct"},
]


def test_every_choice_of_the_project_has_an_estimate_of_its_own() -> None:
    found = estimates(config(fallback=CHOICES), TOKENS, "ml.g6e.2xlarge")[:4]
    assert [(e.provider, e.note, e.usd is not None) for e in found] == [
        ("OpenAI", "", True),
        ("Azure", "", False),
        ("SageMaker", "ml.g6e.2xlarge", True),
        ("SageMaker", "serverless", False),
    ]


def test_run_goes_on_while_one_choice_fits_the_budget() -> None:
    dear = config("gpt-4.1", fallback=CHOICES[1:2], budget={"training_usd": 15})
    check_budgets(dear, TOKENS, "ml.g6e.2xlarge")
    with pytest.raises(OverBudgetError, match=r"budget is \$0\.50"):
        check_budgets(
            config("gpt-4.1", fallback=CHOICES[1:2], budget={"training_usd": 0.5}),
            TOKENS,
            "ml.g6e.2xlarge",
        )
