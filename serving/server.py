"""The model server: `python -m serving.server --port 4567 --state DIR`.

OpenAI's protocol on SmolLM2-135M-Instruct (see README.md for the routes), really trained and asked:
under /v1, under /openai/v1 as Azure has it, and in Together's words under /together/v1. So each
hosted backend of a project can be tried on one machine; what is trained is the same little model.
Files, jobs and adapters persist in the state folder; the base model is converted once into
`--weights`. It listens at once and loads the model meanwhile: `/health` answers 503 until then, and
requests that need the model wait. In the state folder `lifecycle.json` (store.py) plays a
provider's shutdown, and `webhooks.json` (webhooks.py) names who is told that a job has ended.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import uvicorn
from fastapi import APIRouter, FastAPI
from fastapi.responses import JSONResponse, PlainTextResponse
from pydantic import BaseModel

from serving import errors
from serving.chat import Answers, chat_routes
from serving.embeddings import Embedder, embedding_routes
from serving.engine import Engine
from serving.fine_tuning import Training, file_routes, job_routes
from serving.judge import ReferenceJudge
from serving.models import Catalogue
from serving.store import FileStore, JobStore, Lifecycle, Record
from serving.together import together_routes
from serving.trainer import Trainer
from serving.webhooks import Webhooks
from serving.weights import base_weights
from training.train import leave_out_bitsandbytes


class AdapterRequest(BaseModel):
    """The body of vLLM's adapter endpoints."""

    lora_name: str
    lora_path: Path = Path()
    load_inplace: bool = False


def model_routes(catalogue: Catalogue) -> APIRouter:
    """/v1/models, and vLLM's endpoints that load and unload adapters."""
    router = APIRouter(prefix="/v1")

    @router.get("/models")
    def list_models() -> Record:
        return {"object": "list", "data": catalogue.all()}

    @router.get("/models/{model_id:path}")
    def retrieve(model_id: str) -> Record:
        return catalogue.get(model_id)

    @router.delete("/models/{model_id:path}")
    def delete(model_id: str) -> Record:
        catalogue.delete(model_id)
        return {"id": model_id, "object": "model", "deleted": True}

    @router.post("/load_lora_adapter")
    def load(body: AdapterRequest) -> PlainTextResponse:
        catalogue.load(body.lora_name, body.lora_path, replace=body.load_inplace)
        return PlainTextResponse(f"Success: LoRA adapter '{body.lora_name}' added successfully.")

    @router.post("/unload_lora_adapter")
    def unload(body: AdapterRequest) -> PlainTextResponse:
        catalogue.unload(body.lora_name)
        return PlainTextResponse(f"Success: LoRA adapter '{body.lora_name}' removed successfully.")

    return router


def create_app(state: Path, weights: Path, threads: int = 1) -> FastAPI:
    """The application over a state folder; model and trainer run from its start to its end."""
    state.mkdir(parents=True, exist_ok=True)

    @cache
    def find_weights() -> Path:
        return base_weights(weights)

    files, jobs = FileStore(state), JobStore(state)
    jobs.on_end = Webhooks(state).job_ended
    catalogue = Catalogue(state, jobs)
    engine = Engine(find_weights, threads)
    trainer = Trainer(jobs, files, find_weights)
    embedder, lifecycle = Embedder(), Lifecycle(state)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        engine.start()
        trainer.start()
        yield
        trainer.stop()
        engine.stop()

    app = FastAPI(title="Dropforge model server", lifespan=lifespan, docs_url=None, redoc_url=None)
    errors.install(app)
    training = Training(jobs, files, trainer, lifecycle)
    chat = chat_routes(Answers(engine, catalogue, ReferenceJudge(embedder)))
    for prefix in ("", "/openai"):
        app.include_router(chat, prefix=prefix)
        app.include_router(embedding_routes(embedder), prefix=prefix)
        app.include_router(model_routes(catalogue), prefix=prefix)
        app.include_router(file_routes(files), prefix=prefix)
        app.include_router(job_routes(training), prefix=prefix)
    app.include_router(chat, prefix="/together")
    app.include_router(together_routes(training, files, catalogue))

    @app.get("/health")
    def health() -> JSONResponse:
        if engine.failure:
            return JSONResponse({"status": "failed", "reason": str(engine.failure)}, 503)
        ready = engine.ready.is_set()
        return JSONResponse({"status": "ok" if ready else "loading"}, 200 if ready else 503)

    return app


def main() -> None:
    """Serve until SIGTERM or SIGINT; a training run under way keeps a checkpoint."""
    parser = argparse.ArgumentParser(description="OpenAI-compatible model server on a CPU")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=4567)
    parser.add_argument("--state", type=Path, required=True, help="folder of files, jobs, adapters")
    parser.add_argument("--weights", type=Path, help="folder of converted weights (STATE/weights)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads for generation (1)")
    options = parser.parse_args()
    leave_out_bitsandbytes()
    weights = options.weights or options.state / "weights"
    app = create_app(options.state.resolve(), weights.resolve(), options.threads)
    uvicorn.run(
        app, host=options.host, port=options.port, log_level="warning", timeout_graceful_shutdown=5
    )


if __name__ == "__main__":
    main()
