from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dropforge.artifacts import FineTuneJob
from dropforge.errors import ProjectError, ProviderDownError, TrainingTimedOutError
from dropforge.project import parse_project
from dropforge.train import TrainingEvent, check_deadline, merge_events, silence, specify

CONFIG = parse_project(
    "shop", "backend: sagemaker\nmodel: big\ntraining: {epochs: 2, max_rows: 50}"
)
SPEC = specify("shop", CONFIG, "dataset-1")


def test_spec_holds_the_projects_choices() -> None:
    assert (SPEC.backend, SPEC.model, SPEC.dataset) == ("sagemaker", "big", "dataset-1")
    assert SPEC.hyperparameters == {"epochs": 2, "seed": 7}


LISTED = parse_project(
    "shop",
    """
backend: openai
model: gpt
fallback:
  - {backend: together, model: llama}
  - {backend: sagemaker, model: llama-8b}
  - {backend: sagemaker-serverless, model: llama-hub}
training: {learning_rate: 0.001, learning_rate_multiplier: 2, lora_rank: 8, lora_layers: 4,
           max_length: 512, batch_size: 4, adapter: qlora, early_stopping_patience: 2}
""",
)


@pytest.mark.parametrize(
    ("choice", "backend", "sent"),
    [
        (0, "openai", {"epochs", "batch_size", "learning_rate_multiplier", "seed"}),
        (1, "together", {"epochs", "batch_size", "learning_rate", "lora_rank", "seed"}),
        (
            2,
            "sagemaker",
            {"epochs", "batch_size", "learning_rate", "lora_rank", "lora_layers", "max_length"}
            | {"seed", "adapter", "early_stopping_patience"},
        ),
        (3, "sagemaker-serverless", {"epochs", "batch_size", "learning_rate", "lora_rank", "seed"}),
    ],
)
def test_each_choice_is_sent_the_hyperparameters_it_takes(
    choice: int, backend: str, sent: set[str]
) -> None:
    spec = specify("shop", LISTED, "dataset-1", choice)
    assert spec.backend == backend
    assert set(spec.hyperparameters) == sent


def test_choices_of_one_dataset_are_versions_of_their_own() -> None:
    versions = {specify("shop", LISTED, "dataset-1", choice).version for choice in range(4)}
    assert len(versions) == 4


def test_choice_that_the_project_has_not_is_refused() -> None:
    with pytest.raises(ProjectError, match="no choice 5"):
        specify("shop", LISTED, "dataset-1", 4)


def test_silence_counts_from_the_first_request_without_an_answer() -> None:
    job = FineTuneJob(SPEC, 1, started_at=0.0, job_id="job-1")
    silent = silence(job, 60, 1000.0)
    assert silent.silent_since == 1000.0
    assert silence(silent, 60, 1000.0 + 3600) == silent
    with pytest.raises(ProviderDownError, match="sagemaker has not answered for 61 minutes"):
        silence(silent, 60, 1000.0 + 3660)


def test_deadline_passes_only_after_the_allowed_hours() -> None:
    job = FineTuneJob(SPEC, 1, started_at=1000.0, job_id="job-1")
    check_deadline(job, 2, 1000.0 + 2 * 3600)
    with pytest.raises(TrainingTimedOutError, match=r"job-1 .* 2\.0 hours"):
        check_deadline(job, 2, 1001.0 + 2 * 3600)


def test_curve_gains_new_points_in_order_of_steps() -> None:
    known = [TrainingEvent(1, 3.0), TrainingEvent(5, 2.0)]
    new = [TrainingEvent(9, 1.0), TrainingEvent(3, 2.5)]
    assert [event.step for event in merge_events(known, new)] == [1, 3, 5, 9]


def test_later_report_of_a_step_adds_what_was_missing() -> None:
    merged = merge_events(
        [TrainingEvent(5, train_loss=2.0, steps=10)], [TrainingEvent(5, eval_loss=2.2)]
    )
    assert merged == [TrainingEvent(5, train_loss=2.0, eval_loss=2.2, steps=10)]


losses = st.none() | st.floats(0, 10)
curves = st.lists(st.builds(TrainingEvent, step=st.integers(0, 20), train_loss=losses), max_size=20)


@given(curves, curves)
def test_merging_the_same_points_again_changes_nothing(
    known: list[TrainingEvent], new: list[TrainingEvent]
) -> None:
    merged = merge_events(known, new)
    assert merge_events(merged, new) == merged
    assert [event.step for event in merged] == sorted({event.step for event in known + new})
