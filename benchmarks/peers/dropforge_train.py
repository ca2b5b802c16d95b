"""training/train.py as a platform runs it, on the environment it is given.

The last line of standard output is one JSON object: CPU-seconds of everything but the imports.
"""

from __future__ import annotations

import json
import os
import resource

from peft import LoraConfig, get_peft_model  # noqa: F401 - train.py imports these as it needs them
from transformers import AutoTokenizer, LlamaForCausalLM  # noqa: F401

from training import train


def cpu_seconds() -> float:
    """User and system time of this process, all its threads."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> None:
    began = cpu_seconds()
    if not train.run(os.environ):
        raise SystemExit("the run was interrupted")
    print(json.dumps({"seconds": cpu_seconds() - began}), flush=True)


if __name__ == "__main__":
    main()
