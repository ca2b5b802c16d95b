"""A trained model and the one that is served -> whether they are the same."""

from __future__ import annotations

import msgspec

from dropforge.artifacts import FineTuneJob, train_key
from dropforge.backends.sagemaker import SageMakerBackend
from dropforge.parity import Parity, compare, read_recording
from dropforge.settings import TrainSettings
from lambdas.edge import Edge, Event, Result, stage
from lambdas.providers import trainer


@stage("train", TrainSettings)
def handler(edge: Edge, event: Event) -> Result:
    """Raises ParityError, so that a model that is served wrongly is never judged."""
    settings = TrainSettings.from_environment()
    spec = event["job"]["spec"]
    job = edge.store.load(train_key(edge.run.project, spec), FineTuneJob)
    provider = trainer(job.spec.backend, settings, edge.store)
    model = event["poll"]["model"]["model_id"]
    found = _compared(provider, job, model) if isinstance(provider, SageMakerBackend) else None
    parity = found or Parity("not recorded")
    edge.store.save(train_key(edge.run.project, spec, "parity.json"), parity)
    result = dict(msgspec.to_builtins(parity))
    edge.note({"parity": result})
    return result


def _compared(provider: SageMakerBackend, job: FineTuneJob, model: str) -> Parity | None:
    """None where training wrote nothing down."""
    data = provider.recorded(job)
    if data is None:
        return None
    prompts = read_recording(data).prompts
    served = [
        provider.answer(model, prompt.messages, max(1, len(prompt.output_token_ids)))
        for prompt in prompts
    ]
    return compare(prompts, served)
