"""A stand-in for Amazon SageMaker: its wire protocols, in front of this machine's CPU.

What it is: a server that an unmodified boto3 `sagemaker` (JSON 1.1) or `sagemaker-runtime`
(REST-JSON) client talks to. Requests are validated against botocore's own model of the service. A
training job really runs: channels are downloaded from S3, the entry point is a subprocess, the
model directory becomes `model.tar.gz` in S3, and checkpoints are copied there while it runs. A
serverless job runs training/train.py on the local base weights, whatever AWS's trainer would do:
see `serverless.py`. Models are registered as packages of a group. An inference component with a
base component really serves the adapter it names, through the model server's vLLM-compatible
`/v1/load_lora_adapter`. State is on disk and survives a restart.

What it is not: containers (images, networks and instance types are accepted and ignored, the
interpreter is this one), GPUs, several instances, Pipe and FastFile input, manifests, IAM, KMS,
quotas, scaling, or any operation but those in `server.py`. One training job runs at a time; others
wait as `Pending`. Requests are not authenticated: it listens on loopback.
"""
