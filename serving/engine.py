"""Token generation: one thread, one base model, many adapters, requests batched as they come and
go.

Requests for the same adapter share a batch that new ones join between two tokens and finished ones
leave. Batches of different adapters take turns, a few tokens each, so that none waits for another
to end.
"""

from __future__ import annotations

import json
import queue
import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from serving import heap
from serving.batch import Batch, Generation, draw
from training.train import cpu_dtype

MAX_BATCH = 16
TURN = 8
"""Tokens that a batch generates before another adapter's batch gets its turn."""
MAX_ADAPTERS = 16
"""Adapters held in memory; the one longest unused makes room."""


class Engine:
    """Owns the language model; every call on it happens in its own thread.

    Args:
        dtype: the number format of the weights; by itself the one this CPU multiplies fastest.
    """

    def __init__(
        self, weights: Callable[[], Path], threads: int, dtype: torch.dtype | None = None
    ) -> None:
        self._weights = weights
        self._threads = threads
        self.dtype = dtype or cpu_dtype()
        self._inbox: queue.SimpleQueue[Generation | None] = queue.SimpleQueue()
        self._batches: OrderedDict[Path | None, Batch] = OrderedDict()
        self._waiting: list[Generation] = []
        self._adapters: OrderedDict[Path, tuple[str, int]] = OrderedDict()
        self._active: Path | None = None
        self._loaded = 0
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self.ready = threading.Event()
        self.failure: Exception | None = None
        self.weights_dir: Path
        self.tokenizer: Any
        self.context: int

    def start(self) -> None:
        """Load the model in the background; `ready` is set once it is loaded, or has failed to."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread; requests under way are dropped."""
        self._inbox.put(None)
        self._thread.join(timeout=10)

    def submit(self, generation: Generation) -> None:
        """Queue a request; its callbacks tell what becomes of it."""
        self._inbox.put(generation)

    def _run(self) -> None:
        try:
            self._load()
        except Exception as error:
            self.failure = error
            self.ready.set()
            return
        self.ready.set()
        with torch.inference_mode():
            while self._admit():
                self._take_turns()

    def _load(self) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()
        torch.set_num_threads(self._threads)
        self.weights_dir = self._weights()
        self.tokenizer = AutoTokenizer.from_pretrained(self.weights_dir)
        self._base = AutoModelForCausalLM.from_pretrained(self.weights_dir, dtype=self.dtype)
        self._model: Any = self._base.eval()
        self._ends = {self.tokenizer.eos_token_id}
        self.context = self._base.config.max_position_embeddings
        with torch.inference_mode():  # reads the weights, for which the first answer would wait
            self._base(torch.zeros((1, 1), dtype=torch.long))
        heap.release()

    def _admit(self) -> bool:
        """Take new requests into batches, waiting for one if idle; False when told to stop."""
        while not self._inbox.empty() or not (self._batches or self._waiting):
            generation = self._inbox.get()
            if generation is None:
                return False
            self._waiting.append(generation)
        waiting, self._waiting = self._waiting, []
        fresh: dict[Path | None, list[Generation]] = {}
        for generation in waiting:
            running = self._batches.get(generation.adapter)
            mates = fresh.setdefault(generation.adapter, [])
            if (len(running.rows) if running else 0) + len(mates) < MAX_BATCH:
                mates.append(generation)
            else:
                self._waiting.append(generation)
        for adapter, rows in fresh.items():
            if rows:
                self._begin(adapter, rows)
        return True

    def _begin(self, adapter: Path | None, rows: list[Generation]) -> None:
        try:
            held = self._adapters.get(adapter) if adapter else None
            if adapter and held and adapter not in self._batches and held[1] != version(adapter):
                self._drop(adapter)
            self._activate(adapter)
            batch = self._prefill(rows)
        except Exception as error:
            for row in rows:
                row.on_error(error)
            return
        if adapter in self._batches:
            self._batches[adapter].join(batch)
        else:
            self._batches[adapter] = batch

    def _take_turns(self) -> None:
        for adapter in list(self._batches):
            batch = self._batches[adapter]
            try:
                self._activate(adapter)
                for _ in range(TURN if len(self._batches) > 1 else 1):
                    if not self._step(batch):
                        del self._batches[adapter]
                        break
            except Exception as error:
                del self._batches[adapter]
                for row in batch.rows:
                    row.on_error(error)

    def _activate(self, adapter: Path | None) -> None:
        """Make the next forward passes go through an adapter, or through none."""
        if adapter is not None and adapter not in self._adapters:
            self._load_adapter(adapter)
        elif adapter == self._active:
            return
        if adapter is None:
            self._model.base_model.disable_adapter_layers()
        else:
            self._adapters.move_to_end(adapter)
            self._model.base_model.enable_adapter_layers()
            self._model.set_adapter(self._adapters[adapter][0], inference_mode=True)
        self._active = adapter

    def _load_adapter(self, adapter: Path) -> None:
        from peft import PeftModel

        self._check_probe(adapter)
        idle = [path for path in self._adapters if path not in self._batches]
        if len(self._adapters) >= MAX_ADAPTERS and idle:
            self._drop(idle[0])
        self._loaded += 1
        name = f"adapter{self._loaded}"
        with torch.inference_mode(False):
            if self._model is self._base:
                self._model = PeftModel.from_pretrained(self._base, adapter, adapter_name=name)
            else:
                self._model.load_adapter(adapter, adapter_name=name)
        self._adapters[adapter] = (name, version(adapter))

    def _drop(self, adapter: Path) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # peft says which adapter it makes active instead
            self._model.delete_adapter(self._adapters.pop(adapter)[0])
        self._model.base_model.disable_adapter_layers()
        self._active = None

    def _check_probe(self, adapter: Path) -> None:
        """Refuse an adapter that was trained under another chat template than is served here.

        Raises:
            ValueError: a prompt's token ids differ from those that training wrote down.
        """
        metadata = adapter / "training.json"
        probe = json.loads(metadata.read_text())["prompt_probe"] if metadata.exists() else None
        if probe and self.encode(probe["messages"]) != probe["token_ids"]:
            raise ValueError(f"{adapter} was trained under another chat template")

    def encode(self, messages: list[dict[str, str]]) -> list[int]:
        """The token ids of a prompt for the answer to `messages`."""
        text = self.tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True
        )
        return list(self.tokenizer(text, add_special_tokens=False).input_ids)

    def _prefill(self, rows: list[Generation]) -> Batch:
        from transformers import DynamicCache

        width = max(len(row.prompt) for row in rows)
        ids = torch.zeros((len(rows), width), dtype=torch.long)
        mask = torch.zeros((len(rows), width), dtype=torch.long)
        for at, row in enumerate(rows):
            ids[at, width - len(row.prompt) :] = torch.tensor(row.prompt)
            mask[at, width - len(row.prompt) :] = 1
        cache = DynamicCache(config=self._base.config)
        logits = self._forward(ids, mask, (mask.cumsum(1) - 1).clamp(min=0), cache)
        return Batch(list(rows), cache, mask, mask.sum(1), logits)

    def _forward(
        self, ids: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor, cache: Any
    ) -> torch.Tensor:
        output = self._model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        logits: torch.Tensor = output.logits[:, -1].float()
        return logits

    def _step(self, batch: Batch) -> bool:
        """Draw one token for every row and run it; False when no row is left."""
        chosen = [draw(row, batch.logits[at]) for at, row in enumerate(batch.rows)]
        going = []
        for at, (row, token) in enumerate(zip(batch.rows, chosen, strict=True)):
            if self._emit(row, token):
                going.append(at)
        if not going:
            return False
        if len(going) < len(batch.rows):
            batch.keep(going)
        ids = torch.tensor([[chosen[at]] for at in going])
        batch.mask = torch.cat([batch.mask, torch.ones((len(going), 1), dtype=torch.long)], dim=1)
        batch.logits = self._forward(ids, batch.mask, batch.lengths[:, None], batch.cache)
        batch.lengths = batch.lengths + 1
        return True

    def _emit(self, row: Generation, token: int) -> bool:
        """Hand a token on; whether the row goes on after it."""
        if row.cancelled or token in self._ends:
            row.ended = None if row.cancelled else token
            row.on_token(None)
            return False
        row.produced += 1
        row.on_token(token)
        if row.produced >= row.max_tokens:
            row.on_token(None)
            return False
        return True


def version(adapter: Path) -> int:
    """Changes when an adapter's folder is filled anew."""
    return (adapter / "adapter_config.json").stat().st_mtime_ns
