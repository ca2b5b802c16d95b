"""What the SageMaker stand-in holds in memory once."""

from __future__ import annotations

from local.sagemaker import requests


def test_operations_share_one_model_of_sagemaker() -> None:
    one, other = requests.operation("CreateModel"), requests.operation("CreateEndpoint")
    assert one.service_model is other.service_model
