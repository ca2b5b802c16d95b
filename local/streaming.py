"""API Gateway integrations with response streaming, for the emulator.

Why: ministack takes an integration whose URI ends in `/response-streaming-invocations` for a
function of that name, and buffers every answer. Not needed any more when
tests/contract/test_emulator_streaming.py passes without it.

What a function streams: a JSON head, eight zero bytes, the body (API Gateway developer guide,
"Set up a Lambda proxy integration with payload response streaming"). A function that fails before
the head makes a gateway response; one that fails later, an answer that breaks off.
"""

from __future__ import annotations

import asyncio
import functools
import json
from collections.abc import Callable
from typing import Any, Final

from local.environments import Environments
from local.runtime_api import FunctionFailedError, Invocation

STREAMING: Final = "/response-streaming-invocations"
DELIMITER: Final = bytes(8)
MAX_HEAD_BYTES: Final = 16 * 1024

Patched = Callable[..., Any]


def with_streaming(invoke: Patched, gateway: Any, lambdas: Any) -> Patched:
    """Takes the place of apigateway_v1._invoke_lambda_proxy_v1.

    Args:
        gateway: ministack's apigateway_v1.
        lambdas: ministack's lambda_svc.
    """
    environments = Environments()

    @functools.wraps(invoke)
    async def invoked(
        integration: dict[str, Any], *request: Any, owner_account_id: str, owner_region: str,
        **about: Any,
    ) -> Any:  # fmt: skip
        uri = integration.get("uri", "")
        if not uri.endswith(STREAMING):
            owner = {"owner_account_id": owner_account_id, "owner_region": owner_region}
            return await invoke(integration, *request, **owner, **about)
        arn = uri.partition("/functions/")[2].removesuffix(STREAMING)
        function, config, _ = lambdas._get_func_record_for_ref_in_scope(
            arn, account_id=owner_account_id, region=owner_region
        )
        if function is None or config is None:
            return gateway._gw_error("API_CONFIGURATION_ERROR", "Internal server error")
        record = lambdas._execution_record_for_config(function, config)
        event = gateway._build_lambda_event_v1(*request, **about)
        try:
            invocation = await environments.begin(record, event)
            head, start = await read_head(invocation)
        except FunctionFailedError:
            return gateway._gw_error("INTEGRATION_FAILURE", "Internal server error")
        return head.get("statusCode", 200), headers_of(head), _body(invocation, start)

    return invoked


async def read_head(invocation: Invocation) -> tuple[dict[str, Any], bytes]:
    """What stands before the body, and the body's first bytes. Raises FunctionFailedError."""
    seen = b""
    while DELIMITER not in seen:
        part = await invocation.read()
        seen += part
        if not part or len(seen) > MAX_HEAD_BYTES:
            invocation.abandon()
            raise FunctionFailedError("the answer has no head")
    head, _, start = seen.partition(DELIMITER)
    try:
        return json.loads(head), start
    except ValueError as error:
        invocation.abandon()
        raise FunctionFailedError("the answer's head is no JSON") from error


def headers_of(head: dict[str, Any]) -> dict[str, str | list[str]]:
    """`headers` and `multiValueHeaders` of a head, the latter first; JSON if it names no type."""
    merged: dict[str, str | list[str]] = {
        name: str(value) for name, value in (head.get("headers") or {}).items()
    }
    for name, values in (head.get("multiValueHeaders") or {}).items():
        for same in [known for known in merged if known.lower() == name.lower()]:
            del merged[same]
        merged[name] = [str(value) for value in values]
    if "content-type" not in {name.lower() for name in merged}:
        merged["Content-Type"] = "application/json"
    return merged


def _body(invocation: Invocation, start: bytes) -> Any:
    from ministack.core.responses import StreamingResponse

    async def run(send: Patched, receive: Patched) -> None:
        watch = asyncio.ensure_future(_watch(receive, invocation))
        part = start or await _read(invocation)
        while part:
            await send({"type": "http.response.body", "body": part, "more_body": True})
            part = await _read(invocation)
        watch.cancel()
        if part is not None:
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        # else: without its last frame, the server closes the connection in the middle

    return StreamingResponse(run)


async def _read(invocation: Invocation) -> bytes | None:
    """The next bytes, none at the end; None where the function failed."""
    try:
        return await invocation.read()
    except FunctionFailedError:
        return None


async def _watch(receive: Patched, invocation: Invocation) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    invocation.abandon()
