"""What holds on this processor holds on one without vector units, where other roundings decide."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[2]
PLAIN = {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41"}
"""Read by PyTorch and oneDNN as they are loaded: no AVX at all."""
NUMERICAL = (
    "tests/training/test_loss.py",
    "tests/training/test_packing.py",
    "tests/training/test_parity.py",
    "tests/training/test_preferences.py",
    "tests/training/test_rows.py",
    "tests/training/test_stopping.py",
    "tests/serving/test_parity.py",
)


def test_vector_units_are_those_asked_for() -> None:
    asked = os.environ.get("ATEN_CPU_CAPABILITY")
    assert asked is None or torch.backends.cpu.get_cpu_capability() == asked.upper()


def test_the_numerical_tests_hold_on_a_processor_without_vector_units() -> None:
    itself = f"{Path(__file__).relative_to(ROOT)}::{test_vector_units_are_those_asked_for.__name__}"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", itself, *NUMERICAL],
        cwd=ROOT,
        env=os.environ | PLAIN,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-8000:]
