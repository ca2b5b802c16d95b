from __future__ import annotations

from typing import get_args

from dropforge.project.training import Training
from dropforge.providers import PRESETS, SERVES_ON_SAGEMAKER, Backend, Hosted, is_hosted


def test_every_hosted_backend_has_a_preset_and_no_other_has_one() -> None:
    assert set(PRESETS) == set(get_args(Hosted))
    assert {name for name in get_args(Backend) if is_hosted(name)} == set(PRESETS)
    assert set(get_args(Backend)) - set(PRESETS) == set(SERVES_ON_SAGEMAKER)


def test_presets_take_what_a_project_can_name() -> None:
    known = set(Training().hyperparameters()) | set(Training.model_fields)
    for name, preset in PRESETS.items():
        assert preset.takes <= known, name


def test_base_urls_are_safe_and_end_without_a_slash() -> None:
    for preset in PRESETS.values():
        assert not preset.base_url or preset.base_url.startswith("https://")
        assert not preset.base_url.endswith("/")
