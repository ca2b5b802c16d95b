"""The chain from an answer to the dropped file, and back."""

from __future__ import annotations

from rich.tree import Tree

from dropforge.artifacts import (
    CleanManifest,
    DatasetManifest,
    FineTuneJob,
    clean_key,
    dataset_key,
    split_key,
    train_key,
)
from dropforge.backends.registry import Item
from dropforge.cli.deployment import Deployment, fail


def lineage_of_model(here: Deployment, model_header: str) -> Tree:
    """answer -> model version -> job -> dataset -> clean parts -> dropped files."""
    project, _, version = model_header.partition("/")
    model = here.model(here.project(project), version)
    tree = Tree(f"model {project}/{model['version']}  {model['model_id']}")
    evaluation = here.evaluations(project).get(str(model["version"]))
    if evaluation:
        tree.add(f"verdict {evaluation['verdict']}  judge/{project}/{evaluation['hash']}/")
    run = here.registry.get(project, f"run#{model.get('run_id')}") or {}
    if "migrates" in run:
        tree.add(f"moved from {project}/{run['migrates']}: {run['why']}")
    job = here.store.load(train_key(project, model["spec"]), FineTuneJob)
    training = tree.add(f"job {job.job_id}  train/{project}/{job.spec.hash}/")
    training.add(", ".join(f"{k} {v}" for k, v in job.spec.hyperparameters.items()))
    dataset = here.store.load(dataset_key(project, job.spec.dataset), DatasetManifest)
    counts = ", ".join(f"{n} {split}" for split, n in dataset.examples.items())
    branch = training.add(f"dataset validate/{project}/{dataset.hash}/  {counts}")
    for part in dataset.parts:
        _add_part(here, branch, project, part)
    return tree


def _add_part(here: Deployment, branch: Tree, project: str, part: str) -> None:
    clean = here.store.load(clean_key(project, part), CleanManifest)
    leaf = branch.add(f"clean/{project}/{part}/  {clean.kept} of {clean.read} rows")
    source = clean.source
    file = leaf.add(f"s3://{source.bucket}/{source.key}")
    file.add(f"version {source.version_id}, sha256 {source.sha256}, {source.size:,} bytes")


def lineage_of_file(here: Deployment, key: str) -> Tree:
    """dropped file -> clean parts -> datasets -> model versions."""
    place = split_key(key)
    if place is None:
        fail(f"{key!r} is no export's key: exports/PROJECT/FILE.")
    project = here.project(place[1])
    tree = Tree(f"s3://{here.outputs.bucket}/{key}")
    parts = [p for p in here.registry.items(project, "clean#") if p["key"] == key]
    if not parts:
        fail(f"No run has cleaned {key}.")
    models = here.registry.items(project, "model#")
    for part in parts:
        branch = tree.add(f"clean/{project}/{part['hash']}/  sha256 {part['sha256']}")
        for dataset in here.registry.items(project, "dataset#"):
            if part["hash"] in dataset["parts"]:
                _add_models(branch, project, dataset, models)
    return tree


def _add_models(branch: Tree, project: str, dataset: Item, models: list[Item]) -> None:
    leaf = branch.add(f"dataset validate/{project}/{dataset['hash']}/")
    for model in models:
        if model["dataset"] == dataset["hash"]:
            leaf.add(f"model {project}/{model['version']}")
