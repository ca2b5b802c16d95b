"""project.yaml's `serve` and `collect`, as the chat function reads them from the registry."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest
from chat_front import ROOT
from msgspec.structs import fields
from pydantic import BaseModel

from dropforge.project import parse_project
from dropforge.project.served import config_item
from dropforge.project.serving import Cache, Collecting, Ensemble, Price, Semantic, Serving
from dropforge.serve import options
from dropforge.serve.options import CollectOptions, ServedModel, ServeOptions
from dropforge.serve.routing import ServedProject

SMALLEST = "backend: sagemaker\nmodel: own-model\n"  # a model without a list price
ALL = """
backend: openai
model: gpt-4.1-mini-2025-04-14
serve:
  fallback: [base, previous, {backend: together, model: llama}]
  max_input_tokens: 3000
  max_output_tokens: 700
  cache: {exact: false, hours: 5, semantic: {similarity: 0.9, max_false_hits: 0.01, check_share: 1}}
  ensemble: {models: [champion, base], n: 4, by: judge, judge: {backend: azure, model: judge}}
  embeddings: {backend: local, model: minilm}
  price: {input: 0.4, output: 1.6}
collect: {consent: true, share: 0.5, unrated: true}
"""


def arrived(text: str) -> ServedProject:
    """By way of JSON, for numbers that the registry gives back as floats."""
    item = config_item(parse_project("shop", text), None)
    return msgspec.json.decode(msgspec.json.encode(item), type=ServedProject)


def test_defaults_are_the_same_on_both_sides() -> None:
    found = arrived(SMALLEST)
    assert found.serve == ServeOptions()
    assert found.collect is None
    collected = arrived(SMALLEST + "collect: {consent: true}\n").collect
    assert collected == CollectOptions()
    nested = "serve: {cache: {semantic: {}}, embeddings: {backend: local, model: m}, ensemble: {}}"
    assert arrived(SMALLEST + nested).serve == ServeOptions(
        cache=options.Cache(semantic=options.Semantic()),
        embeddings=ServedModel("local", "m"),
        ensemble=options.Ensemble(),
    )


def test_every_option_arrives() -> None:
    found = arrived(ALL)
    assert found.serve == ServeOptions(
        fallback=("base", "previous", ServedModel("together", "llama")),
        max_input_tokens=3000,
        max_output_tokens=700,
        cache=options.Cache(exact=False, hours=5.0, semantic=options.Semantic(0.9, 0.01, 1.0)),
        ensemble=options.Ensemble(("champion", "base"), 4, "judge", ServedModel("azure", "judge")),
        embeddings=ServedModel("local", "minilm"),
        price=options.Price(0.4, 1.6),
    )
    assert found.collect == CollectOptions(share=0.5, unrated=True)
    defaults: Any = ServeOptions()
    same = [
        one.name
        for one in fields(ServeOptions)
        if getattr(found.serve, one.name) == getattr(defaults, one.name)
    ]
    assert same == []  # a new option belongs in this test, too


@pytest.mark.parametrize(
    ("section", "struct"),
    [
        (Serving, ServeOptions),
        (Cache, options.Cache),
        (Semantic, options.Semantic),
        (Ensemble, options.Ensemble),
        (Price, options.Price),
    ],
)
def test_both_sides_have_the_same_names(
    section: type[BaseModel], struct: type[msgspec.Struct]
) -> None:
    assert set(section.model_fields) == {field.name for field in fields(struct)}


@pytest.mark.parametrize(
    ("path", "section"),
    [
        ("serve", Serving),
        ("serve.cache", Cache),
        ("serve.cache.semantic", Semantic),
        ("serve.ensemble", Ensemble),
        ("serve.price", Price),
        ("collect", Collecting),
    ],
)
def test_every_key_is_in_the_table_with_its_default(path: str, section: type[BaseModel]) -> None:
    table = {}
    for line in (ROOT / "docs/project.md").read_text().splitlines():
        if line.startswith(("| `serve", "| `collect")):
            names, default, _ = (cell.strip() for cell in line.strip("|").split("|", 2))
            first, *others = re.findall(r"`([\w.]+)`", names)
            values = default.split(", ") if others else [default]
            values *= len(others) + 1 if len(values) == 1 else 1
            parent = first.rpartition(".")[0]
            keys = [first, *(parent + other for other in others)]
            table.update(dict(zip(keys, values, strict=True)))
    for name, field in section.model_fields.items():
        told = table[f"{path}.{name}"].strip("`")
        if isinstance(field.default, bool | int | float | str):
            assert told in (str(field.default).lower(), str(field.default).removesuffix(".0")), name


def test_consent_stays_behind() -> None:
    names = {field.name for field in fields(CollectOptions)}
    assert set(Collecting.model_fields) - names == {"consent"}


def test_the_dearest_list_price_is_filled_in() -> None:
    found = arrived("backend: openai\nmodel: gpt-4.1-mini-2025-04-14\n").serve.price
    assert found is not None
    assert 0 < found.input < found.output
