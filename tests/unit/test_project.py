from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dropforge.errors import ProjectError
from dropforge.project import ProjectConfig, parse_project

MINIMAL = "backend: openai\nmodel: small\n"


def test_minimal_file_takes_every_default() -> None:
    config = parse_project("shop", MINIMAL)
    assert (config.backend, config.model, config.monthly) == ("openai", "small", False)
    assert (config.gate.win_rate, config.gate.lower_bound, config.gate.scored) == (0.7, 0.5, 0.8)
    assert config.training.hyperparameters() == {"epochs": 3, "seed": 7}


def test_hyperparameters_hold_only_what_trains() -> None:
    config = parse_project(
        "shop", MINIMAL + "training: {max_rows: 50, timeout_hours: 2, lora_rank: 8, epochs: 1}"
    )
    assert config.training.hyperparameters() == {"epochs": 1, "lora_rank": 8, "seed": 7}


def test_hash_tells_configurations_apart_and_not_their_spelling() -> None:
    one = parse_project("shop", MINIMAL)
    assert one.hash == parse_project("shop", "{model: small, backend: openai, monthly: no}").hash
    assert one.hash != parse_project("shop", MINIMAL + "monthly: true").hash


def test_snapshot_reads_back_as_the_same_configuration() -> None:
    config = parse_project("shop", MINIMAL + "keep: [help@shop.example]\ncolumns: {answer: reply}")
    assert ProjectConfig.model_validate_json(config.model_dump_json()) == config


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (MINIMAL + "bakend: x", "bakend"),
        ("model: m", "backend"),
        ("backend: cloud\nmodel: m", "backend"),
        ("backend: openai\nmodel: ''", "model"),
        (MINIMAL + "training: {epochs: 0}", "training.epochs"),
        (MINIMAL + "training: {learning_rate_multiplier: .inf}", "learning_rate_multiplier"),
        (MINIMAL + "gate: {win_rate: 70}", "gate.win_rate"),
        (MINIMAL + "gate: {win_rate: .nan}", "gate.win_rate"),
        ("backend: [openai", "line 1"),
        ("- backend", "not a table"),
        ("", "not a table"),
        ("seed: 2020-13-45", "not valid YAML"),
        ("x: " + "1" * 5000, "not valid YAML"),
        ("[" * 5_000, "not valid YAML"),
        (b"\xff\xfe\x00", "not valid YAML"),
        ("a: &x [*x]", "backend"),
        (MINIMAL + 'system_prompt: "\\ud800"', "system_prompt"),
    ],
)
def test_wrong_file_is_refused_with_the_place(text: str | bytes, named: str) -> None:
    with pytest.raises(ProjectError) as refused:
        parse_project("shop", text)
    assert named in refused.value.message
    assert refused.value.hint


@pytest.mark.parametrize("name", ["", "Shop", "-shop", "a/b", "ü", "a" * 42, "shop\n", ".."])
def test_name_that_is_no_project_name_is_refused(name: str) -> None:
    with pytest.raises(ProjectError, match="no project name"):
        parse_project(name, MINIMAL)


def test_message_about_a_wrong_value_does_not_quote_it() -> None:
    with pytest.raises(ProjectError) as refused:
        parse_project("shop", MINIMAL + "monthly: sk-live-canary")
    assert "canary" not in str(refused.value)


@given(st.one_of(st.binary(), st.text().map(lambda text: text.encode("utf-8", "surrogatepass"))))
def test_any_file_is_a_configuration_or_a_project_error(data: bytes) -> None:
    try:
        config = parse_project("shop", MINIMAL.encode() + data)
    except ProjectError:
        return
    assert len(config.hash) == 64


def test_empty_canary_is_not_silently_none() -> None:
    with pytest.raises(ProjectError, match=r"canary: \{\}"):
        parse_project("x", "backend: openai\nmodel: m\ncanary:\n")
    config = parse_project("x", "backend: openai\nmodel: m\ncanary: {}\n")
    assert config.canary is not None
    assert ProjectConfig.model_validate_json(config.model_dump_json()) == config


def test_snapshot_without_a_canary_is_read_back() -> None:
    config = parse_project("x", "backend: openai\nmodel: m\n")
    assert config.canary is None
    assert ProjectConfig.model_validate_json(config.model_dump_json()) == config
