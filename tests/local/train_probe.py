"""A training script without a model: follows SageMaker's contract, and its hyperparameters."""

import json
import os
import signal
import sys
import time
from pathlib import Path

hyperparameters = json.loads(os.environ["SM_HPS"])
ml = Path(os.environ["SAGEMAKER_BASE_DIR"])
checkpoint = Path(os.environ["SM_CHECKPOINT_DIR"]) / "checkpoint"
mode = hyperparameters.get("mode", "train")

if mode == "fail":
    (ml / "output" / "failure").write_text("there are no rows")
    sys.exit(3)

if mode == "wait":

    def interrupted(*_):
        checkpoint.write_text("step 7")
        sys.exit(143)

    signal.signal(signal.SIGTERM, interrupted)
    (checkpoint.parent / "events.jsonl").write_text('{"step":1,"steps":2,"train_loss":3.5}\n')
    print("waiting", flush=True)
    time.sleep(60)

assert json.loads((ml / "input/config/hyperparameters.json").read_text()) == hyperparameters
assert (Path(os.environ["SM_CHANNEL_TRAIN"]) / "train.jsonl").exists()
model = Path(os.environ["SM_MODEL_DIR"])
(model / "adapter_config.json").write_text("{}")
resumed = checkpoint.read_text() if checkpoint.exists() else ""
(model / "seen.json").write_text(json.dumps({"resumed": resumed}))
