"""What local/emulator.py changes in ministack, and why.

Each patch says how to notice that it is not needed any more. They replace private names, which is
why the emulator's version is checked before they are applied.
"""

from __future__ import annotations

import contextlib
import functools
import io
import json
import re
import threading
import time
import types
import zipfile
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Final

from local import handover, spark, streaming
from local.settings import ROOT

POLL_SECONDS: Final = 0.5
ANNOUNCE_SECONDS: Final = 2.0
"""After a restart, until every service has loaded its state."""

MAX_LOGGED_INVOCATIONS: Final = 1000

CUT_OFF: Final = "States.ServiceRestart"
USAGE_KEY: Final = "_usage_identifier_key"
CREATE_TRAINING_JOB: Final = "arn:aws:states:::sagemaker:createTrainingJob"

Patched = Callable[..., Any]
"""A function of the emulator, or what takes its place."""


def exception_name(log: str, message: str) -> str | None:
    """The class name of the exception whose traceback `log` ends with, without its module.

    None where there is no traceback. `message` is str() of that exception: it may span lines and
    hold anything, so it is matched literally.
    """
    ending = rf": {re.escape(message)}" if message else ""
    found = re.findall(rf"^((?:[\w<>]+\.)*[A-Za-z_]\w*){ending}$", log, flags=re.MULTILINE)
    if not found or "Traceback (most recent call last):" not in log:
        return None
    return str(found[-1]).rpartition(".")[2]


def with_exception_names(execute: Patched) -> Patched:
    """Gives a failed Lambda the errorType that AWS gives it: the exception's class name.

    Why: ministack reports every exception as `Runtime.HandlerError`, so ASL Retry and Catch by
    class name never match. Not needed any more when tests/contract/test_emulator_states.py passes
    without it.
    """

    @functools.wraps(execute)
    def executed(function: dict[str, Any], event: Any, request_id: str) -> dict[str, Any]:
        result: dict[str, Any] = execute(function, event, request_id)
        body = result.get("body")
        if not isinstance(body, dict) or body.get("errorType") != "Runtime.HandlerError":
            return result
        name = exception_name(result.get("log") or "", body.get("errorMessage") or "")
        return {**result, "body": {**body, "errorType": name}} if name else result

    return executed


def with_max_concurrency_path(run_items: Patched, resolve: Patched) -> Patched:
    """Honours a Map state's MaxConcurrencyPath.

    Why: ministack reads MaxConcurrency only and would run every item at once, a Lambda process
    each. Not needed any more when tests/contract/test_emulator_states.py passes without it.
    """

    @functools.wraps(run_items)
    def ran(state: dict[str, Any], raw_input: Any, execution: Any, context: Any) -> Any:
        path = state.get("MaxConcurrencyPath")
        if path is not None:
            state = {**state, "MaxConcurrency": int(resolve(path, raw_input, context))}
        return run_items(state, raw_input, execution, context)

    return ran


def with_timeout_path(execute_task: Patched, resolve: Patched) -> Patched:
    """Honours a Task state's TimeoutSecondsPath.

    Why: ministack reads TimeoutSeconds only, so a wait for a task token would last a day. Not
    needed any more when tests/contract/test_emulator_states.py passes without it.
    """

    @functools.wraps(execute_task)
    def executed(state: dict[str, Any], raw_input: Any, execution: Any, context: Any) -> Any:
        path = state.get("TimeoutSecondsPath")
        if path is not None:
            state = {**state, "TimeoutSeconds": resolve(path, raw_input, context)}
        return execute_task(state, raw_input, execution, context)

    return executed


class _CallbackFailedError(Exception):
    """Carries the error of a function that was to keep a task token."""


def with_callback_failures(
    invoke: Patched, call_lambda: Patched, error: type[Exception]
) -> tuple[Patched, Patched]:
    """Fails a waitForTaskToken task at once when its function raises, as Step Functions does.

    Why: ministack swallows the `error` and waits for the token until the task's timeout. Not needed
    any more when tests/contract/test_emulator_states.py passes without it. Returns replacements for
    stepfunctions._invoke_with_callback and _call_lambda.
    """
    current = threading.local()

    @functools.wraps(call_lambda)
    def called(*args: Any, **kwargs: Any) -> Any:
        try:
            return call_lambda(*args, **kwargs)
        except error as failed:
            if getattr(current, "waits", False):
                raise _CallbackFailedError from failed
            raise

    @functools.wraps(invoke)
    def invoked(*args: Any, **kwargs: Any) -> Any:
        current.waits = True
        try:
            return invoke(*args, **kwargs)
        except _CallbackFailedError as failed:
            raise failed.__cause__ or failed from None
        finally:
            current.waits = False

    return invoked, called


def with_version_id(fire: Patched, dispatch: Patched) -> tuple[Patched, Patched]:
    """Adds `version-id` to the S3 events on EventBridge, as S3 does for a bucket with versioning.

    Why: ministack hands the version to SQS and SNS notifications but leaves it out of the
    EventBridge event, and the identity of a drop is bucket, key and version. Not needed any more
    when tests/contract/test_emulator_events.py passes without it. Returns replacements for
    s3._fire_s3_event and eventbridge._dispatch_event.
    """
    current = threading.local()

    @functools.wraps(fire)
    def fired(*args: Any, version_id: str | None = None, **kwargs: Any) -> None:
        current.version_id = version_id
        try:
            fire(*args, version_id=version_id, **kwargs)
        finally:
            current.version_id = None

    @functools.wraps(dispatch)
    def dispatched(event: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        version_id = getattr(current, "version_id", None)
        if version_id and event.get("Source") == "aws.s3":
            detail = json.loads(event["Detail"])
            detail["object"].setdefault("version-id", version_id)
            event = {**event, "Detail": json.dumps(detail)}
        return dispatch(event, *args, **kwargs)

    return fired, dispatched


def with_aborted_executions(
    restore: Patched, executions: Any, announce: Callable[[dict[str, Any]], None]
) -> Patched:
    """Ends executions that a restart cut off as ABORTED, and announces that on EventBridge.

    Why: ministack marks them FAILED without an event, so nobody would ever record that the run is
    over; on AWS nothing cuts an execution off. Not needed any more when
    tests/contract/test_emulator_restart.py passes without it. Takes the place of
    stepfunctions._restore_state.
    """

    @functools.wraps(restore)
    def restored(data: Any) -> None:
        restore(data)
        for execution in executions.all_values():
            if execution.get("error") == CUT_OFF and execution["status"] == "FAILED":
                execution.update(status="ABORTED", cause="The emulator was restarted.")
                timer = threading.Timer(ANNOUNCE_SECONDS, announce, (execution,))
                timer.daemon = True
                timer.start()

    return restored


def with_code_folders(code_dir: Patched, state: Path) -> tuple[types.SimpleNamespace, Patched]:
    """Runs functions from the folders that their archives name (see handover.py).

    Why: ministack holds an archive in memory for every function, and unpacks it for every worker,
    which at 80 MB and thousands of files is most of a cold start. On AWS the code is read-only and
    may be shared all the same. Not needed any more when ministack runs a function from a folder.
    Returns replacements for lambda_runtime.zipfile and lambda_svc._provided_runtime_code_dir.
    """

    class Archive(zipfile.ZipFile):
        def extractall(self, path: Any = None, members: Any = None, pwd: Any = None) -> None:
            folder = handover.folder(self, state)
            if folder is None:
                super().extractall(path, members, pwd)
            else:
                Path(path).rmdir()
                Path(path).symlink_to(folder, target_is_directory=True)

    @functools.wraps(code_dir)
    def found(code_zip: bytes) -> str:
        with zipfile.ZipFile(io.BytesIO(code_zip)) as archive:
            folder = handover.folder(archive, state)
        return str(folder) if folder else code_dir(code_zip)

    return types.SimpleNamespace(**{**vars(zipfile), "ZipFile": Archive}), found


def with_bounded_logs(emit: Patched, groups: Mapping[str, Any]) -> Patched:
    """Keeps a function's last MAX_LOGGED_INVOCATIONS in its log group, and forgets older ones.

    Why: ministack holds logs in memory, a stream for every invocation, whatever the group's
    retention. Not needed any more when it keeps them on disk or honours RetentionInDays. Takes the
    place of lambda_svc._emit_lambda_logs.
    """

    @functools.wraps(emit)
    def emitted(function: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        emit(function, *args, **kwargs)
        config = function.get("config") or function
        logging = config.get("LoggingConfig") or {}
        name = logging.get("LogGroup") or f"/aws/lambda/{config.get('FunctionName')}"
        streams = (groups.get(name) or {}).get("streams", {})
        for oldest in list(streams)[:-MAX_LOGGED_INVOCATIONS]:
            streams.pop(oldest, None)

    return emitted


def with_idle_workers_ended(reap: Patched, runtime: Any) -> Patched:
    """Ends every worker that has been idle for `ttl` seconds, as Lambda does.

    Why: ministack keeps the first worker of each function for good, so a run of the pipeline leaves
    19 processes of 50 to 150 MB. Not needed any more when tests/contract/test_emulator_memory.py
    passes without it. Takes the place of lambda_svc.reap_idle_workers; `runtime` is ministack's
    lambda_runtime.
    """

    @functools.wraps(reap)
    def reaped(ttl: float | None = None) -> int:
        since = time.time() - (runtime._LOCAL_WORKER_TTL if ttl is None else ttl)
        idle = []
        with runtime._lock:
            for pool in runtime._workers.values():
                idle += [found for found in pool if not found.in_use and found.last_used < since]
                pool[:] = [found for found in pool if found not in idle]
        runtime.kill_workers(idle)
        return len(idle)

    return reaped


def with_versions_on_disk(make_entry: Patched) -> Patched:
    """Leaves the content of an object's versions to the disk, where S3_PERSIST puts it anyway.

    Why: ministack holds every version of a bucket with versioning in memory too, 270 MB for the
    weights alone, until it is restarted. Not needed any more when tests/contract/
    test_emulator_memory.py passes without it. Takes the place of s3._version_entry_from_record.
    """

    @functools.wraps(make_entry)
    def made(record: dict[str, Any], version_id: str, _data: bytes | None) -> Any:
        return make_entry(record, version_id, None)

    return made


def with_usage_identifiers(
    authorize: Patched, ask: Patched, key_of: Patched, apis: Mapping[str, Any]
) -> tuple[Patched, Patched, Patched]:
    """Takes the API key of an API whose source is AUTHORIZER from `usageIdentifierKey`.

    Why: ministack reads the x-api-key header whatever the source is, so usage plans would never
    throttle a client whom the authorizer names. Not needed any more when
    tests/contract/test_emulator_streaming.py passes without it. Returns replacements for
    apigateway_v1._authorize_request_v1, ._invoke_authorizer_lambda and ._api_key_from_request. The
    key travels in the authorizer's context, which is what ministack caches, and leaves it again
    before anybody reads that.
    """
    current: ContextVar[str | None] = ContextVar("usage_identifier_key", default=None)

    @functools.wraps(ask)
    async def asked(*args: Any, **kwargs: Any) -> Any:
        result = await ask(*args, **kwargs)
        policy = (result or {}).get("body")
        if isinstance(policy, str):
            with contextlib.suppress(ValueError):
                policy = json.loads(policy)
        if not isinstance(policy, dict) or "usageIdentifierKey" not in policy:
            return result
        context = {**(policy.get("context") or {}), USAGE_KEY: policy["usageIdentifierKey"]}
        return {**result, "body": {**policy, "context": context}}

    @functools.wraps(authorize)
    async def authorized(api_id: str, *args: Any, **kwargs: Any) -> Any:
        error, context = await authorize(api_id, *args, **kwargs)
        by_authorizer = (apis.get(api_id) or {}).get("apiKeySource") == "AUTHORIZER"
        current.set((context or {}).get(USAGE_KEY, "") if by_authorizer else None)
        if context is not None:
            context = {name: value for name, value in context.items() if name != USAGE_KEY}
        return error, context

    @functools.wraps(key_of)
    def found(headers: Any) -> Any:
        named = current.get()
        return key_of(headers) if named is None else named

    return authorized, asked, found


def with_api_key_source(create: Patched, apis: Mapping[str, Any]) -> Patched:
    """Honours ApiKeySourceType when a stack makes a REST API.

    Why: ministack reads it when the stack is updated only. Not needed any more when
    tests/contract/test_emulator_streaming.py passes without it.
    """

    @functools.wraps(create)
    def created(logical_id: str, properties: Mapping[str, Any], stack: str) -> Any:
        api, attributes = create(logical_id, properties, stack)
        apis[api]["apiKeySource"] = properties.get("ApiKeySourceType", "HEADER")
        return api, attributes

    return created


def training_task(
    failure: Callable[[str, str], Exception], client: Callable[[], Any]
) -> Callable[[str, Any], Any]:
    """The ASL service integration `sagemaker:createTrainingJob`, with and without `.sync`.

    Why: ministack has no SageMaker, and answers this resource with States.Runtime. Not needed any
    more once it has one. `failure(error, cause)` makes the emulator's own execution error, `client`
    a boto3 SageMaker client. As on AWS, `.sync` returns the job's description; a job that ends in
    any other way than Completed fails with States.TaskFailed, and the cause is the description in
    JSON, which holds FailureReason.
    """

    def run(resource: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
        from botocore.exceptions import ClientError, ParamValidationError

        try:
            sagemaker = client()
            created = sagemaker.create_training_job(**parameters)
            if not resource.endswith(".sync"):
                return {"TrainingJobArn": created["TrainingJobArn"]}
            description = await_training_job(sagemaker, parameters["TrainingJobName"])
        except ClientError as error:
            said = error.response["Error"]
            raise failure(service_error(said["Code"]), said["Message"]) from error
        except (ParamValidationError, TypeError) as error:
            raise failure("States.Runtime", str(error)) from error
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            raise failure("SageMaker.SdkClientException", reason) from error
        if description["TrainingJobStatus"] != "Completed":
            raise failure("States.TaskFailed", json.dumps(description))
        return description

    return run


def await_training_job(sagemaker: Any, name: str) -> dict[str, Any]:
    """Polls until the job has ended; its description, with times in epoch milliseconds."""
    while True:
        description = dict(sagemaker.describe_training_job(TrainingJobName=name))
        if description["TrainingJobStatus"] in ("Completed", "Failed", "Stopped"):
            break
        time.sleep(POLL_SECONDS)
    description.pop("ResponseMetadata", None)
    written = json.dumps(description, default=lambda moment: int(moment.timestamp() * 1000))
    plain: dict[str, Any] = json.loads(written)
    return plain


def service_error(code: str) -> str:
    """The ASL error name of a SageMaker error code; AmazonSageMakerException if not modelled."""
    if code in ("ResourceInUse", "ResourceLimitExceeded", "ResourceNotFound"):
        return f"SageMaker.{code}Exception"
    return "SageMaker.AmazonSageMakerException"


def apply(state: Path) -> None:
    """Applies every patch to the imported ministack; `state` is the instance's folder."""
    import boto3
    from ministack.core import lambda_runtime
    from ministack.services import (
        apigateway_v1,
        cloudwatch_logs,
        eventbridge,
        lambda_svc,
        s3,
        stepfunctions,
    )
    from ministack.services.cloudformation import provisioners

    lambda_runtime.zipfile, lambda_svc._provided_runtime_code_dir = with_code_folders(
        lambda_svc._provided_runtime_code_dir, state
    )
    apigateway_v1._invoke_lambda_proxy_v1 = streaming.with_streaming(
        apigateway_v1._invoke_lambda_proxy_v1, apigateway_v1, lambda_svc
    )
    (
        apigateway_v1._authorize_request_v1,
        apigateway_v1._invoke_authorizer_lambda,
        apigateway_v1._api_key_from_request,
    ) = with_usage_identifiers(
        apigateway_v1._authorize_request_v1,
        apigateway_v1._invoke_authorizer_lambda,
        apigateway_v1._api_key_from_request,
        apigateway_v1._rest_apis,
    )
    provisioner = provisioners._RESOURCE_HANDLERS["AWS::ApiGateway::RestApi"]
    provisioner["create"] = with_api_key_source(provisioner["create"], apigateway_v1._rest_apis)
    lambda_svc._emit_lambda_logs = with_bounded_logs(
        lambda_svc._emit_lambda_logs, cloudwatch_logs._log_groups
    )
    lambda_svc.reap_idle_workers = with_idle_workers_ended(
        lambda_svc.reap_idle_workers, lambda_runtime
    )
    # Why: a list of all events, which nobody reads. Not needed any more when that is gone.
    eventbridge._events_log_list = list
    lambda_svc._execute_function_warm = with_exception_names(lambda_svc._execute_function_warm)
    stepfunctions._run_map_items = with_max_concurrency_path(
        stepfunctions._run_map_items, stepfunctions._resolve_path_or_ctx
    )
    stepfunctions._execute_task = with_timeout_path(
        stepfunctions._execute_task, stepfunctions._resolve_path_or_ctx
    )
    stepfunctions._invoke_with_callback, stepfunctions._call_lambda = with_callback_failures(
        stepfunctions._invoke_with_callback,
        stepfunctions._call_lambda,
        stepfunctions._ExecutionError,
    )
    s3._version_entry_from_record = with_versions_on_disk(s3._version_entry_from_record)
    s3._fire_s3_event, eventbridge._dispatch_event = with_version_id(
        s3._fire_s3_event, eventbridge._dispatch_event
    )
    stepfunctions._restore_state = with_aborted_executions(
        stepfunctions._restore_state,
        stepfunctions._executions,
        stepfunctions._emit_execution_status_event,
    )
    stepfunctions._SERVICE_DISPATCH[spark.START_JOB_RUN] = spark.job_task(
        stepfunctions._ExecutionError,
        state / "spark",
        ROOT / ".venv-spark" / "bin" / "python",
    )
    stepfunctions._SERVICE_DISPATCH[CREATE_TRAINING_JOB] = training_task(
        stepfunctions._ExecutionError, lambda: boto3.session.Session().client("sagemaker")
    )
