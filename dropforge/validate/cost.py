"""What training would cost with each kind of provider, and the budget that stops it in time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from dropforge.artifacts import Estimate
from dropforge.errors import OverBudgetError
from dropforge.project import ProjectConfig
from dropforge.validate.models import INSTANCES, gpu_hours, known_model

_ALTERNATIVES = (
    ("OpenAI", "gpt-4.1-mini", ""),
    ("OpenAI", "gpt-4.1", ""),
    ("Together", "meta-llama/Meta-Llama-3-8B-Instruct", ""),
    ("SageMaker", "llama-3-8b-instruct", "ml.g6e.2xlarge"),
    ("SageMaker", "llama-3-8b-instruct", "ml.p5.4xlarge"),
)


def estimates(
    config: ProjectConfig, tokens: dict[str, int], instance: str = ""
) -> tuple[Estimate, ...]:
    """The project's own choice first, then what others would take for the same examples.

    Args:
        tokens: of one epoch, chat template included, by encoding (`DatasetManifest.train_tokens`).
        instance: what the deployment trains on where the backend is `sagemaker`.
    """
    epochs = config.training.epochs
    own = "SageMaker" if config.backend == "sagemaker" else ""
    first = _estimate(own, config.model, instance if own else "", tokens, epochs)
    price = config.budget.usd_per_million_tokens
    if price is not None and not own:
        usd = price * first.tokens / 1e6
        first = Estimate(first.provider, first.model, first.tokens, usd, first.exact)
    others = (_estimate(*other, tokens, epochs) for other in _ALTERNATIVES)
    return tuple(_distinct([first, *others]))


def _distinct(found: Iterable[Estimate]) -> Iterator[Estimate]:
    seen = set()
    for one in found:
        if (one.provider, one.model, one.note) not in seen:
            seen.add((one.provider, one.model, one.note))
            yield one


def _estimate(
    provider: str, model: str, instance: str, tokens: dict[str, int], epochs: int
) -> Estimate:
    known = known_model(model)
    if known is None:
        trained = tokens["o200k_base"] * epochs
        return Estimate(provider or "unknown", model, trained, None, exact=False)
    trained = round(tokens[known.encoding] * known.factor) * epochs
    if provider == "SageMaker":
        machine = INSTANCES.get(instance)
        if machine is None or known.billions is None:
            return Estimate(provider, model, trained, None, known.exact, note=instance)
        hours = gpu_hours(trained, known.billions, machine)
        price = hours * machine.usd_per_hour
        return Estimate(provider, model, trained, price, known.exact, hours, note=instance)
    usd = None if known.usd is None else known.usd * trained / 1e6
    return Estimate(provider or known.provider, model, trained, usd, known.exact)


def check_budget(config: ProjectConfig, own: Estimate) -> None:
    """Raises OverBudgetError where training would cost more than the project allows.

    A budget with an unknown price stops the run too: nobody could say that it holds.
    """
    limit = config.budget.training_usd
    if limit is None:
        return
    if own.usd is None:
        raise OverBudgetError(
            f"What training {own.model} costs is not known, and the project has a budget.",
            hint="Give the price: `budget.usd_per_million_tokens` in project.yaml.",
        )
    if own.usd > limit:
        raise OverBudgetError(
            f"Training on {own.tokens:,} tokens would cost about ${own.usd:,.2f}; the project's "
            f"budget is ${limit:,.2f}.",
            hint="Lower training.max_rows or training.epochs, or raise budget.training_usd.",
        )
