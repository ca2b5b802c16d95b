"""What training would cost with each kind of provider, and the budget that stops it in time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from dropforge.artifacts import Estimate
from dropforge.errors import OverBudgetError
from dropforge.models import INSTANCES, gpu_hours, known_model
from dropforge.project import ProjectConfig
from dropforge.project.section import Choice
from dropforge.providers import SAGEMAKER, SERVERLESS

_ALTERNATIVES = (
    ("OpenAI", "gpt-4.1-mini", ""),
    ("OpenAI", "gpt-4.1", ""),
    ("Together", "meta-llama/Meta-Llama-3-8B-Instruct", ""),
    ("SageMaker", "llama-3-8b-instruct", "ml.g6e.2xlarge"),
    ("SageMaker", "llama-3-8b-instruct", "ml.p5.4xlarge"),
)

_SELLERS = {"azure": "Azure", "bedrock": "Bedrock", SERVERLESS: "SageMaker"}
"""Those whose prices are not the ones that the table has for a model's name."""


def estimates(
    config: ProjectConfig, tokens: dict[str, int], instance: str = ""
) -> tuple[Estimate, ...]:
    """The project's own choices first, then what others would take for the same examples.

    Args:
        tokens: of one epoch, chat template included, by encoding (`DatasetManifest.train_tokens`).
        instance: what the deployment trains on where the backend is `sagemaker`.
    """
    own = (estimate(config, choice, tokens, instance) for choice in config.choices)
    others = (_estimate(*other, tokens, config.training.epochs) for other in _ALTERNATIVES)
    return tuple(_distinct([*own, *others]))


def estimate(
    config: ProjectConfig, choice: Choice, tokens: dict[str, int], instance: str = ""
) -> Estimate:
    """What one of the project's choices would take. Arguments as of `estimates`."""
    epochs = config.training.epochs
    if choice.backend == SAGEMAKER:
        return _estimate("SageMaker", choice.model, instance, tokens, epochs)
    found = _estimate(_SELLERS.get(choice.backend, ""), choice.model, "", tokens, epochs)
    price = config.budget.usd_per_million_tokens
    usd = price * found.tokens / 1e6 if price is not None else found.usd
    note = "serverless" if choice.backend == SERVERLESS else ""
    return Estimate(found.provider, found.model, found.tokens, usd, found.exact, note=note)


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
    if provider in _SELLERS.values() and not instance:
        return Estimate(provider, model, trained, None, known.exact)
    if provider == "SageMaker":
        machine = INSTANCES.get(instance)
        if machine is None or known.billions is None:
            return Estimate(provider, model, trained, None, known.exact, note=instance)
        hours = gpu_hours(trained, known.billions, machine)
        price = hours * machine.usd_per_hour
        return Estimate(provider, model, trained, price, known.exact, hours, note=instance)
    usd = None if known.usd is None else known.usd * trained / 1e6
    return Estimate(provider or known.provider, model, trained, usd, known.exact)


def check_budgets(config: ProjectConfig, tokens: dict[str, int], instance: str = "") -> None:
    """Raises OverBudgetError where none of the project's choices fits its budget."""
    first: OverBudgetError | None = None
    for choice in config.choices:
        try:
            return check_budget(config, estimate(config, choice, tokens, instance))
        except OverBudgetError as error:
            first = first or error
    if first:
        raise first
    return None


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
