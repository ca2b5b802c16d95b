from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dropforge.artifacts import FineTuneJob
from dropforge.errors import TrainingTimedOutError
from dropforge.project import parse_project
from dropforge.train import TrainingEvent, check_deadline, merge_events, specify

CONFIG = parse_project(
    "shop", "backend: sagemaker\nmodel: big\ntraining: {epochs: 2, max_rows: 50}"
)
SPEC = specify("shop", CONFIG, "dataset-1")


def test_spec_holds_the_projects_choices() -> None:
    assert (SPEC.backend, SPEC.model, SPEC.dataset) == ("sagemaker", "big", "dataset-1")
    assert SPEC.hyperparameters == {"epochs": 2, "seed": 7}


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
