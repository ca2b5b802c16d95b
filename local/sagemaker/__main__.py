"""`python -m local.sagemaker`: serves the stand-in on 127.0.0.1 until a signal comes.

S3 is reached as by any client, through AWS_ENDPOINT_URL and the credentials in the environment.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import boto3
import uvicorn
from botocore.config import Config

from local.sagemaker.endpoints import Endpoints
from local.sagemaker.packages import ModelPackages
from local.sagemaker.server import Server
from local.sagemaker.storage import Storage
from local.sagemaker.training import Training
from local.settings import BASE_MODEL


def main() -> None:
    """Parses the command line and serves."""
    parser = argparse.ArgumentParser(prog="python -m local.sagemaker", description=__doc__)
    parser.add_argument("--port", type=int, default=4568, help="TCP port on 127.0.0.1")
    parser.add_argument("--state", type=Path, required=True, help="folder for jobs and records")
    parser.add_argument("--model-server", required=True, metavar="URL", help="what answers")
    parser.add_argument("--base-model", default=BASE_MODEL, help="its id of the base model")
    arguments = parser.parse_args()
    state = arguments.state.resolve()
    s3 = boto3.client("s3", config=Config(retries={"max_attempts": 5, "mode": "standard"}))
    storage = Storage(s3, state / "cache")
    packages = ModelPackages(state / "registry")
    training = Training(state / "training", storage, packages)
    endpoints = Endpoints(state / "serving", storage, arguments.model_server, arguments.base_model)
    uvicorn.run(
        Server(training, endpoints, packages).app(),
        host="127.0.0.1", port=arguments.port, log_level="info", timeout_graceful_shutdown=3,
    )  # fmt: skip


if __name__ == "__main__":
    main()
