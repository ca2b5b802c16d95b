"""Training jobs: CreateTrainingJob to `model.tar.gz`.

Reads the job's channels from S3; writes `<S3OutputPath>/<job>/output/model.tar.gz`, and
`output.tar.gz` and checkpoints where the script leaves any.
"""

from __future__ import annotations

import contextlib
import signal
import threading
import time
import traceback
from pathlib import Path
from typing import Any, Final

from local.sagemaker import output, requests, serverless
from local.sagemaker.container import Container
from local.sagemaker.errors import InUseError, InvalidRequestError, NotFoundError
from local.sagemaker.packages import ModelPackages
from local.sagemaker.records import Record, Records
from local.sagemaker.storage import NoInputError, Storage
from local.settings import ACCOUNT, REGION

STOP_SECONDS: Final = 120
"""How long a job may take between SIGTERM and SIGKILL; the API reference of StopTrainingJob."""

RUNNING: Final = ("InProgress", "Stopping")
PAGE_SIZE: Final = 10
DAY_SECONDS: Final = 86400
SUMMARY: Final = (
    *("TrainingJobName", "TrainingJobArn", "TrainingJobStatus", "SecondaryStatus"),
    *("CreationTime", "TrainingEndTime", "LastModifiedTime"),
)


class _CutShort(Exception):  # noqa: N818
    """The job was stopped before it trained, or the stand-in is being closed."""


class Training:
    """The training jobs below a folder; one runs at a time."""

    def __init__(self, folder: Path, storage: Storage, packages: ModelPackages) -> None:
        self._folder = folder
        self._storage = storage
        self._packages = packages
        self._records = Records(folder / "records")
        self._slot = threading.Semaphore(1)
        self._containers: dict[str, Container] = {}
        self._closing = False

    def create(self, request: Record) -> Record:
        """CreateTrainingJob. Raises InUseError, InvalidRequestError."""
        _refuse_unsupported(request)
        name, now = request["TrainingJobName"], time.time()
        known = requests.members("DescribeTrainingJob")
        record = {
            **{member: value for member, value in request.items() if member in known},
            "TrainingJobArn": f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:training-job/{name}",
            "TrainingJobStatus": "InProgress",
            "CreationTime": now,
            "LastModifiedTime": now,
            "SecondaryStatusTransitions": [],
        }
        _enter(record, "Pending", "Waiting for this machine to be free")
        if not self._records.create(name, record):
            raise InUseError(
                "Training job names must be unique within an AWS account and region, and a training"
                f" job with this name already exists ({record['TrainingJobArn']})"
            )
        self._start(name)
        return {"TrainingJobArn": record["TrainingJobArn"]}

    def describe(self, request: Record) -> Record:
        """DescribeTrainingJob. Raises NotFoundError."""
        record = self._records.get(request["TrainingJobName"])
        if record is None:
            raise NotFoundError("Requested resource not found.")
        return record

    def stop(self, request: Record) -> Record:
        """StopTrainingJob: SIGTERM, and SIGKILL after STOP_SECONDS."""
        name = request["TrainingJobName"]
        status = self.describe(request)["TrainingJobStatus"]
        if status not in RUNNING:
            raise InvalidRequestError(
                f"The request was rejected because the training job is in status {status}."
            )
        self._interrupt(name, "Stopped")
        return {}

    def list(self, request: Record) -> Record:
        """ListTrainingJobs, newest first; filters by name and status."""
        found = [
            record
            for name, record in self._records.all().items()
            if request.get("NameContains", "") in name
            and request.get("StatusEquals", record["TrainingJobStatus"])
            == record["TrainingJobStatus"]
        ]
        found.sort(key=lambda record: -record["CreationTime"])
        start, size = int(request.get("NextToken", 0)), request.get("MaxResults", PAGE_SIZE)
        page = [{m: r[m] for m in SUMMARY if m in r} for r in found[start : start + size]]
        more = {"NextToken": str(start + size)} if len(found) > start + size else {}
        return {"TrainingJobSummaries": page, **more}

    def resume(self) -> None:
        """Picks up jobs that a restart cut off: spot jobs run again, from their checkpoints."""
        for name, record in self._records.all().items():
            if record["TrainingJobStatus"] not in RUNNING:
                continue
            if record.get("EnableManagedSpotTraining"):
                self._enter(name, "Interrupted", "The stand-in was restarted")
                self._start(name)
            else:
                reason = "InternalServerError: the SageMaker stand-in was restarted during the job"
                self._end(name, "Failed", FailureReason=reason)

    def close(self) -> None:
        """Ends what runs, leaving its record as it is, for `resume`."""
        self._closing = True
        for container in list(self._containers.values()):
            container.signal(signal.SIGKILL)

    def _start(self, name: str) -> None:
        threading.Thread(target=self._guarded, args=(name,), daemon=True, name=name).start()

    def _guarded(self, name: str) -> None:
        with self._slot:
            try:
                self._run(name)
            except _CutShort:
                pass
            except NoInputError as error:
                self._end(name, "Failed", FailureReason=str(error))
            except Exception as error:
                traceback.print_exc()
                reason = f"InternalServerError: {type(error).__name__}: {error}"[:1024]
                self._end(name, "Failed", FailureReason=reason)
            finally:
                self._containers.pop(name, None)

    def _run(self, name: str) -> None:
        """A job from its folders to its artifacts. Raises _CutShort where it is ended early."""
        job = self._wanted(name)
        if "ServerlessJobConfig" in job:
            job = serverless.container_job(job)
        container = Container(self._folder / "jobs" / name, job)
        self._containers[name] = container
        self._enter(name, "Starting", "Preparing the folders")
        container.prepare()
        self._enter(name, "Downloading", "Downloading input data")
        self._download(container)
        self._wanted(name)
        self._enter(name, "Training", "Training job in progress", TrainingStartTime=time.time())
        status = self._train(name, container)
        metrics = list(container.metrics.values())
        if status and self._status(name) != "Stopping":
            output.save_checkpoints(self._storage, container)
            reason = container.failure(status)
            self._end(name, "Failed", FailureReason=reason, FinalMetricDataList=metrics)
            return
        self._enter(name, "Uploading", "Uploading generated training model")
        ended = "Stopped" if self._status(name) == "Stopping" else "Completed"
        about = output.upload(self._storage, self._packages, container)
        self._end(name, ended, FinalMetricDataList=metrics, **about)

    def _train(self, name: str, container: Container) -> int:
        """Runs the entry point within its time limit; its exit status."""
        stopping = container.job.get("StoppingCondition", {})
        limit = stopping.get("MaxRuntimeInSeconds", DAY_SECONDS)
        timer = threading.Timer(limit, self._interrupt, (name, "MaxRuntimeExceeded"))
        timer.daemon = True
        timer.start()
        ended = threading.Event()
        copier = threading.Thread(target=output.copy_new, args=(self._storage, container, ended))
        copier.start()
        try:
            return container.run()
        finally:
            timer.cancel()
            ended.set()
            copier.join()
            if self._closing:
                raise _CutShort

    def _status(self, name: str) -> str:
        return str(self.describe({"TrainingJobName": name})["TrainingJobStatus"])

    def _wanted(self, name: str) -> Record:
        """The job's record. Raises _CutShort once it is stopped, or this server is being closed."""
        if self._status(name) == "Stopping":
            self._end(name, "Stopped")
            raise _CutShort
        if self._closing:
            raise _CutShort
        return self.describe({"TrainingJobName": name})

    def _download(self, container: Container) -> None:
        for channel in container.job.get("InputDataConfig", []):
            uri = channel["DataSource"]["S3DataSource"]["S3Uri"]
            self._storage.download_channel(uri, container.channel(channel["ChannelName"]))
        checkpoints = container.job.get("CheckpointConfig")
        if checkpoints and not any(container.checkpoints.iterdir()):
            self._storage.download(checkpoints["S3Uri"].rstrip("/") + "/", container.checkpoints)

    def _interrupt(self, name: str, why: str) -> None:
        """Asks a job to end; `why` is Stopped or MaxRuntimeExceeded."""

        def stopping(record: Record) -> None:
            record["TrainingJobStatus"] = "Stopping"
            _enter(record, why if why == "MaxRuntimeExceeded" else "Stopping", why)

        self._records.change(name, stopping)
        container = self._containers.get(name)
        if container is not None:
            container.signal(signal.SIGTERM)
            killer = threading.Timer(STOP_SECONDS, container.signal, (signal.SIGKILL,))
            killer.daemon = True
            killer.start()

    def _enter(self, name: str, secondary: str, message: str, **members: Any) -> None:
        def entered(record: Record) -> None:
            if record["TrainingJobStatus"] == "InProgress":
                _enter(record, secondary, message)
            record.update(members)

        self._records.change(name, entered)

    def _end(self, name: str, status: str, **members: Any) -> None:
        def ended(record: Record) -> None:
            now = time.time()
            seconds = max(1, int(now - record.get("TrainingStartTime", now)))
            record.update(members, TrainingJobStatus=status, TrainingEndTime=now)
            record.update(TrainingTimeInSeconds=seconds, BillableTimeInSeconds=seconds)
            if record["SecondaryStatus"] != "MaxRuntimeExceeded":
                _enter(record, status, members.get("FailureReason", f"Training job {status}"))

        self._records.change(name, ended)


def _enter(record: Record, secondary: str, message: str) -> None:
    """Moves a record to a secondary status, closing the one before."""
    now = time.time()
    transitions = record["SecondaryStatusTransitions"]
    if transitions:
        transitions[-1].setdefault("EndTime", now)
    transitions.append({"Status": secondary, "StartTime": now, "StatusMessage": message})
    record.update(SecondaryStatus=secondary, LastModifiedTime=now)


def _refuse_unsupported(request: Record) -> None:
    """Raises InvalidRequestError for what AWS refuses beyond its model, or only AWS can do."""
    if "ServerlessJobConfig" in request:
        serverless.refuse_unsupported(request)
        return
    required = ("AlgorithmSpecification", "ResourceConfig", "StoppingCondition")
    missing = [member for member in required if member not in request]
    if missing:
        raise InvalidRequestError(f"Missing required members: {', '.join(missing)}")
    stopping = request["StoppingCondition"]
    if request.get("EnableManagedSpotTraining") and stopping.get(
        "MaxWaitTimeInSeconds", 0
    ) < stopping.get("MaxRuntimeInSeconds", DAY_SECONDS):
        raise InvalidRequestError(
            "Invalid MaxWaitTimeInSeconds. It must be present and be greater than or equal to"
            " MaxRuntimeInSeconds"
        )
    if not request["AlgorithmSpecification"].get("ContainerEntrypoint"):
        raise InvalidRequestError(
            "The SageMaker stand-in has no containers: give"
            ' AlgorithmSpecification.ContainerEntrypoint, such as ["python3", "/opt/ml/…/train.py"]'
        )
    for channel in request.get("InputDataConfig", []):
        source = channel["DataSource"].get("S3DataSource", {})
        if source.get("S3DataType") != "S3Prefix" or channel.get("CompressionType") == "Gzip":
            raise InvalidRequestError(
                f"The SageMaker stand-in reads S3Prefix without compression: {channel}"
            )
    with contextlib.suppress(KeyError):
        if request["OutputDataConfig"]["CompressionType"] == "NONE":
            raise InvalidRequestError("The SageMaker stand-in writes model.tar.gz only")
