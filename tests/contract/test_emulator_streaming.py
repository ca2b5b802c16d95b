"""Response streaming through a REST API, with the chat function's own runtime."""

from __future__ import annotations

import http.client
import io
import json
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest
from contract_parts import ROLE, client_for, until

ROOT = Path(__file__).parents[2]
RUNTIME = ("lambdas/__init__.py", "lambdas/chat/__init__.py", "lambdas/chat/runtime.py")
WRAPPER = "lambdas/chat/bootstrap"
Aws = Callable[[str], Any]


def archive() -> bytes:
    """The probe, the runtime and msgspec, as a deployment package."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as folder:
        folder.write(Path(__file__).with_name("stream_probe.py"), "stream_probe.py")
        for name in RUNTIME:
            folder.write(ROOT / name, name)
        entry = zipfile.ZipInfo(WRAPPER)
        entry.external_attr = 0o755 << 16
        folder.writestr(entry, (ROOT / WRAPPER).read_bytes())
        package = Path(msgspec.__file__).parent
        for file in package.rglob("*"):
            if file.suffix in (".py", ".so"):
                folder.write(file, file.relative_to(package.parent).as_posix())
    return packed.getvalue()


def deploy(aws: Aws, name: str, timeout: int) -> str:
    arn: str = aws("lambda").create_function(
        FunctionName=name, Runtime="python3.13", Role=ROLE, Handler="stream_probe.handler",
        Timeout=timeout, Code={"ZipFile": archive()}, LoggingConfig={"LogGroup": f"/probe/{name}"},
        Environment={"Variables": {"AWS_LAMBDA_EXEC_WRAPPER": f"/var/task/{WRAPPER}"}},
    )["FunctionArn"]  # fmt: skip
    return arn


def streaming(arn: str) -> str:
    path = f"2021-11-15/functions/{arn}/response-streaming-invocations"
    return f"arn:aws:apigateway:us-east-1:lambda:path/{path}"


def api(aws: Aws, emulator: str, arn: str) -> str:
    """A REST API with POST /; its URL."""
    gateway = aws("apigateway")
    made = gateway.create_rest_api(name="stream", apiKeySource="AUTHORIZER")["id"]
    root = gateway.get_resources(restApiId=made)["items"][0]["id"]
    gateway.put_method(restApiId=made, resourceId=root, httpMethod="POST", authorizationType="NONE")
    gateway.put_integration(
        restApiId=made, resourceId=root, httpMethod="POST", type="AWS_PROXY",
        integrationHttpMethod="POST", uri=streaming(arn),
    )  # fmt: skip
    gateway.put_gateway_response(
        restApiId=made, responseType="INTEGRATION_FAILURE", statusCode="502",
        responseTemplates={"application/json": '{"error":{"code":"bad_gateway"}}'},
    )  # fmt: skip
    gateway.create_deployment(restApiId=made, stageName="prod")
    return f"{emulator}/_aws/execute-api/{made}/prod/"


@pytest.fixture(scope="module")
def url(aws: Aws, emulator: str) -> str:
    return api(aws, emulator, deploy(aws, "streams", 60))


def post(url: str, **plan: Any) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
    """A request's connection and its answer, the body of which is still to be read."""
    place = urlsplit(url)
    connection = http.client.HTTPConnection(place.netloc, timeout=60)
    connection.request("POST", place.path, json.dumps(plan))
    return connection, connection.getresponse()


def ask(url: str, **plan: Any) -> tuple[int, bytes, http.client.HTTPMessage]:
    connection, answer = post(url, **plan)
    try:
        return answer.status, answer.read(), answer.headers
    finally:
        connection.close()


def lives(pid: int) -> bool:
    """Whether a process runs; one that ended and was not waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_bytes_arrive_one_by_one_with_status_and_headers(url: str, tmp_path: Path) -> None:
    """The function writes a part when the one before has arrived."""
    connection, answer = post(url, parts=4, taken=str(tmp_path), status=201)
    seen = []
    while part := answer.read1():
        (tmp_path / str(len(seen))).touch()
        seen.append(part)
    connection.close()

    assert answer.status == 201
    assert answer.headers["Content-Type"] == "text/plain"
    assert answer.headers.get_all("x-two") == ["a", "b"]
    assert seen == [f"part {number}\n".encode() for number in range(4)]


def test_many_requests_at_once_have_an_environment_each(url: str, tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(ask, url, meet=str(tmp_path), others=8) for _ in range(8)]
        answers = [each.result() for each in asked]
    assert [status for status, _, _ in answers] == [200] * 8
    assert len({headers["x-pid"] for _, _, headers in answers}) == 8


def test_next_request_finds_the_environment_warm(aws: Aws, emulator: str) -> None:
    url = api(aws, emulator, deploy(aws, "warm", 60))
    pids: set[str] = set()

    def met_again() -> bool:
        """Not before its runtime has asked for the next event, which may take a moment."""
        headers = ask(url)[2]
        known = headers["x-pid"] in pids
        pids.add(headers["x-pid"])
        assert known is (int(headers["x-served"]) > 1)
        return known

    until(met_again)


@pytest.mark.parametrize("way", ["raises", "exits"])
def test_failure_before_the_head_is_the_gateways_response(url: str, way: str) -> None:
    plan: dict[str, Any] = {way: True}
    status, body, _ = ask(url, **plan)
    assert (status, json.loads(body)) == (502, {"error": {"code": "bad_gateway"}})
    assert ask(url)[0] == 200


@pytest.mark.parametrize("way", ["raises_at", "dies_at"])
def test_failure_in_the_middle_breaks_the_answer_off(url: str, way: str) -> None:
    plan: dict[str, Any] = {way: 2}
    connection, answer = post(url, parts=3, pause=0.05, **plan)
    with pytest.raises(http.client.IncompleteRead) as broken:
        answer.read()
    connection.close()
    assert answer.status == 200
    assert broken.value.partial == b"part 0\npart 1\n"
    assert ask(url)[0] == 200


def test_function_is_killed_at_its_timeout(aws: Aws, emulator: str) -> None:
    url = api(aws, emulator, deploy(aws, "slow", 3))
    assert ask(url, sleeps=20)[0] == 502

    connection, answer = post(url, parts=99, pause=0.3)
    with pytest.raises(http.client.IncompleteRead):
        answer.read()
    connection.close()
    until(lambda: not lives(int(answer.headers["x-pid"])))
    until(lambda: "Task timed out after 3.00 seconds" in logged(aws, "slow"))


def test_what_the_function_prints_is_in_its_log_group(aws: Aws, url: str) -> None:
    ask(url, name="printing")
    until(lambda: "after printing" in logged(aws, "streams"))
    assert "before printing" in logged(aws, "streams")


def logged(aws: Aws, name: str) -> str:
    logs = aws("logs")
    if not logs.describe_log_groups(logGroupNamePrefix=f"/probe/{name}")["logGroups"]:
        return ""
    pages = logs.get_paginator("filter_log_events").paginate(logGroupName=f"/probe/{name}")
    return "\n".join(event["message"] for page in pages for event in page["events"])


def test_work_after_the_answer_keeps_the_environment_but_not_the_caller(
    url: str, tmp_path: Path
) -> None:
    over = tmp_path / "over"
    first = ask(url, afterwork=str(over))[2]
    assert ask(url)[2]["x-pid"] != first["x-pid"]
    over.touch()


def test_function_learns_that_the_caller_has_hung_up(url: str, tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    connection, answer = post(url, parts=2000, pause=0.05, closed=str(closed))
    answer.read1()
    answer.close()
    connection.close()
    until(closed.exists)


def test_changed_configuration_starts_new_environments(aws: Aws, emulator: str) -> None:
    url = api(aws, emulator, deploy(aws, "painted", 60))
    before = ask(url)[2]
    found = aws("lambda").get_function_configuration(FunctionName="painted")["Environment"]
    variables = found["Variables"] | {"COLOR": "green"}
    aws("lambda").update_function_configuration(
        FunctionName="painted", Environment={"Variables": variables}
    )
    after = ask(url)[2]
    assert (before["x-color"], after["x-color"]) == ("", "green")
    assert not lives(int(before["x-pid"]))


def test_unknown_function_is_a_configuration_error(aws: Aws, emulator: str) -> None:
    arn = "arn:aws:lambda:us-east-1:000000000000:function:nobody"
    assert ask(api(aws, emulator, arn))[0] == 500


def test_no_process_outlives_the_emulator(restarting: Callable[[], Any]) -> None:
    with restarting() as emulator:

        def aws(service: str) -> Any:
            return client_for(emulator, service)

        headers = ask(api(aws, emulator, deploy(aws, "orphan", 60)))[2]
        assert lives(int(headers["x-pid"]))
    until(lambda: not lives(int(headers["x-pid"])))


def test_stack_makes_an_api_whose_keys_come_from_the_authorizer(aws: Aws) -> None:
    keyed = {"Name": "keyed", "ApiKeySourceType": "AUTHORIZER"}
    resources = {"Api": {"Type": "AWS::ApiGateway::RestApi", "Properties": keyed}}
    template = json.dumps({"Resources": resources})
    aws("cloudformation").create_stack(StackName="keyed", TemplateBody=template)

    def made() -> Any:
        found = aws("apigateway").get_rest_apis()["items"]
        return [each["apiKeySource"] for each in found if each["name"] == "keyed"]

    assert until(made) == ["AUTHORIZER"]
