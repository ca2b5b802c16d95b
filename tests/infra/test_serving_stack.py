from __future__ import annotations

import json
import os
import re
from typing import Any

import msgspec
import pytest

from dropforge.collect import STORED
from dropforge.serve import Feedback
from dropforge.serve.arms import FAILED
from infra import collect
from infra.api import BEARER, RESPONSES
from infra.asset import CHAT, source_files
from infra.config import API_TIMEOUT_S, ROOT, STREAM_TIMEOUT_S, settings_from
from infra.endpoint import container_environment
from infra.shadow import BATCH, MAX_CONCURRENCY
from infra.training import image_uri, repository_arn
from lambdas.chat.arms import ShadowChat
from lambdas.chat.settings import ChatSettings
from lambdas.chat.store import ProjectStore
from lambdas.shadow.handler import REGISTRY_SECONDS, Shadow
from tests.infra.assembly import Assembly, listed, text

SIGNED = {"GET /approvals/{project}/{run}", "POST /approvals/{project}/{run}"}
"""Their links carry a signature in place of a bearer token."""


PUBLIC = {"GET /", "GET /openapi.json", "GET /health"}
"""These carry no data."""


def routes(assembly: Assembly) -> dict[str, dict[str, Any]]:
    resources = assembly.properties("AWS::ApiGateway::Resource")

    def path(reference: Any) -> str:
        if "Ref" not in reference:
            return ""
        part = resources[reference["Ref"]]
        return f"{path(part['ParentId'])}/{part['PathPart']}"

    return {
        f"{m['HttpMethod']} {path(m['ResourceId']) or '/'}": m
        for m in assembly.properties("AWS::ApiGateway::Method").values()
    }


def test_routes_are_those_of_the_api(assembly: Assembly) -> None:
    assert set(routes(assembly)) == {
        "POST /v1/chat",
        "POST /v1/chat/completions",
        "GET /v1/models",
        "GET /v1/models/{model+}",
        "POST /v1/embeddings",
        "POST /v1/feedback",
        *PUBLIC,
        *SIGNED,
    }


def test_every_route_but_public_ones_and_signed_links_asks_the_authorizer(
    assembly: Assembly,
) -> None:
    for route, method in routes(assembly).items():
        if route in PUBLIC | SIGNED:
            assert method["AuthorizationType"] == "NONE"
        else:
            assert method["AuthorizationType"] == "CUSTOM", route
            assert method["AuthorizerId"], route


def test_authorizer_remembers_a_token_for_a_minute_at_most(assembly: Assembly) -> None:
    authorizer = assembly.one("AWS::ApiGateway::Authorizer")

    assert authorizer["Type"] == "TOKEN"
    assert authorizer["IdentitySource"] == "method.request.header.Authorization"
    assert authorizer["AuthorizerResultTtlInSeconds"] <= 60


@pytest.mark.parametrize("header", ["Bearer df-abc", "bearer x.y-z_/+==", "BEARER 1"])
def test_bearer_tokens_reach_the_authorizer(header: str) -> None:
    assert re.fullmatch(BEARER, header)


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer ", "Basic dXNlcjpwYXNz", "df-abc"])
def test_other_headers_are_refused_before_it(header: str) -> None:
    assert not re.fullmatch(BEARER, header)


def test_bodies_are_validated(assembly: Assembly) -> None:
    posts = {r: m for r, m in routes(assembly).items() if r.startswith("POST /v1")}
    validator = assembly.one("AWS::ApiGateway::RequestValidator")

    assert validator["ValidateRequestBody"]
    for route, method in posts.items():
        assert method["RequestModels"]["application/json"], route
        assert method["RequestValidatorId"], route


def test_stage_is_throttled_logged_and_measured_without_bodies(assembly: Assembly) -> None:
    stage = assembly.one("AWS::ApiGateway::Stage")
    settings = stage["MethodSettings"][0]
    fields = json.loads(stage["AccessLogSetting"]["Format"])

    assert stage["StageName"] == "prod"
    assert (settings["ThrottlingRateLimit"], settings["ThrottlingBurstLimit"]) == (50, 100)
    assert settings["MetricsEnabled"]
    assert not settings["DataTraceEnabled"]
    assert fields["token"] == "$context.authorizer.principalId"
    assert not any("header" in value.lower() for value in fields.values())


def test_api_refuses_tls_below_1_2(assembly: Assembly) -> None:
    api = assembly.one("AWS::ApiGateway::RestApi")

    assert api["SecurityPolicy"].startswith("SecurityPolicy_TLS13_1_2")
    assert api["EndpointConfiguration"]["Types"] == ["REGIONAL"]


def test_gateway_answers_errors_in_openais_shape(assembly: Assembly) -> None:
    responses = assembly.properties("AWS::ApiGateway::GatewayResponse").values()
    by_type = {r["ResponseType"]: r for r in responses}

    assert set(by_type) == set(RESPONSES)
    for kind, response in by_type.items():
        body = response["ResponseTemplates"]["application/json"]
        error = json.loads(body.replace("$context.error.messageString", '"said by AWS"'))["error"]
        assert set(error) == {"message", "type", "param", "code"}, kind
        assert error["message"], kind
        assert error["param"] is None, kind
    statuses = {kind: r.get("StatusCode") for kind, r in by_type.items()}
    assert statuses["UNAUTHORIZED"] == "401"
    assert statuses["ACCESS_DENIED"] == "403"
    assert statuses["MISSING_AUTHENTICATION_TOKEN"] == "404"
    assert statuses["THROTTLED"] == "429"
    assert statuses["INTEGRATION_TIMEOUT"] == "504"
    assert statuses["INTEGRATION_FAILURE"] == "502"
    headers = {kind: r["ResponseParameters"] for kind, r in by_type.items()}
    request_id, retry = "gatewayresponse.header.x-request-id", "gatewayresponse.header.Retry-After"
    assert all(found[request_id] == "context.requestId" for found in headers.values())
    assert {kind for kind, found in headers.items() if retry in found} == {
        "THROTTLED",
        "QUOTA_EXCEEDED",
    }
    assert headers["THROTTLED"][retry] == "'1'"
    again = "gatewayresponse.header.x-should-retry"
    assert {k: found[again] for k, found in headers.items() if again in found} == {
        "QUOTA_EXCEEDED": "'false'"
    }


def test_firewall_limits_each_address_and_stands_before_the_stage(assembly: Assembly) -> None:
    acl = assembly.one("AWS::WAFv2::WebACL")
    association = assembly.one("AWS::WAFv2::WebACLAssociation")
    rate = acl["Rules"][0]["Statement"]["RateBasedStatement"]

    assert rate["AggregateKeyType"] == "IP"
    assert rate["Limit"] == 2000
    assert acl["Rules"][0]["Action"] == {"Block": {}}
    assert "Stageprod" in text(association["ResourceArn"])


def test_chat_gives_up_before_its_function_and_that_before_the_gateway(
    assembly: Assembly,
) -> None:
    chat = assembly.functions()["chat"]

    deadline = float(chat["Environment"]["Variables"]["DROPFORGE_DEADLINE_SECONDS"])
    assert deadline < chat["Timeout"] <= STREAM_TIMEOUT_S
    for route, method in routes(assembly).items():
        if route not in SIGNED:
            assert method["Integration"]["TimeoutInMillis"] == 1000 * chat["Timeout"], route


def test_chat_streams_through_its_own_runtime(assembly: Assembly) -> None:
    wrapper = assembly.functions()["chat"]["Environment"]["Variables"]["AWS_LAMBDA_EXEC_WRAPPER"]
    started = ROOT / wrapper.removeprefix("/var/task/")

    assert started in source_files(CHAT)
    assert os.access(started, os.X_OK)
    for route, method in routes(assembly).items():
        integration = method["Integration"]
        uri = text(integration["Uri"])
        if route in SIGNED:
            assert integration.get("ResponseTransferMode", "BUFFERED") == "BUFFERED", route
            assert uri.endswith("/invocations")
        else:
            assert integration["ResponseTransferMode"] == "STREAM", route
            assert ":lambda:path/2021-11-15/functions/<Chat" in uri
            assert uri.endswith("/response-streaming-invocations")


def test_buffered_functions_end_before_the_gateway(assembly: Assembly) -> None:
    functions = assembly.functions()
    assert functions["approve"]["Timeout"] <= API_TIMEOUT_S


def test_endpoint_scales_between_zero_and_its_limit(assembly: Assembly) -> None:
    config = assembly.one("AWS::SageMaker::EndpointConfig")
    target = assembly.one("AWS::ApplicationAutoScaling::ScalableTarget")
    scaling = config["ProductionVariants"][0]["ManagedInstanceScaling"]

    assert scaling == {"Status": "ENABLED", "MinInstanceCount": 0, "MaxInstanceCount": 2}
    assert (target["MinCapacity"], target["MaxCapacity"]) == (0, 2)
    assert target["ResourceId"] == "inference-component/dropforge-base"
    assert target["ScalableDimension"] == "sagemaker:inference-component:DesiredCopyCount"


def test_a_sleeping_endpoint_is_woken_by_the_first_request(assembly: Assembly) -> None:
    policies = assembly.properties("AWS::ApplicationAutoScaling::ScalingPolicy")
    alarm = assembly.one("AWS::CloudWatch::Alarm", "EndpointAsleep")
    step = next(p for p in policies.values() if p["PolicyType"] == "StepScaling")
    adjustments = step["StepScalingPolicyConfiguration"]["StepAdjustments"]

    assert adjustments == [{"MetricIntervalLowerBound": 0, "ScalingAdjustment": 1}]
    assert alarm["MetricName"] == "NoCapacityInvocationFailures"
    assert any(text(action).startswith("<EndpointWakeUp") for action in alarm["AlarmActions"])


def test_base_model_comes_from_the_bucket_and_takes_adapters(assembly: Assembly) -> None:
    model = assembly.one("AWS::SageMaker::Model")
    container = model["PrimaryContainer"]
    source = container["ModelDataSource"]["S3DataSource"]
    component = assembly.one("AWS::SageMaker::InferenceComponent")

    assert text(source["S3Uri"]).endswith("/models/llama-3-8b-instruct/")
    assert source["S3DataType"] == "S3Prefix"
    assert source["CompressionType"] == "None"
    assert container["Environment"]["OPTION_ENABLE_LORA"] == "true"
    assert model["EnableNetworkIsolation"]
    assert component["InferenceComponentName"] == "dropforge-base"


def test_model_server_is_set_up_by_its_image_and_the_settings() -> None:
    lmi = container_environment(settings_from({}).sagemaker)
    assert lmi["OPTION_ENTRYPOINT"] == "djl_python.lmi_vllm.vllm_async_service"
    assert (lmi["OPTION_MAX_MODEL_LEN"], lmi["OPTION_MAX_LORA_RANK"]) == ("8192", "64")
    over = {"sagemaker.serving_image": "vllm:server-sagemaker-cuda-v1", "sagemaker.max_loras": 3}
    vllm = container_environment(settings_from(over).sagemaker)
    assert (vllm["SM_VLLM_MAX_LORAS"], vllm["SM_VLLM_ENABLE_LORA"]) == ("3", "true")
    assert not any("{" in value for value in (*lmi.values(), *vllm.values()))


def test_no_endpoint_is_made_where_sagemaker_is_switched_off(with_options: Assembly) -> None:
    template = with_options.templates["DropforgeServing"]

    assert not [r for r in template["Resources"].values() if "SageMaker" in r["Type"]]


def test_images_are_looked_for_in_the_regions_registry_or_taken_by_uri() -> None:
    own = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/team/vllm:2"

    assert image_uri("djl-inference:1").endswith("/djl-inference:1")
    assert image_uri("djl-inference:1").startswith("763104351884.dkr.ecr.")
    assert repository_arn("djl-inference:1").endswith(":763104351884:repository/djl-inference")
    assert image_uri(own) == own
    assert repository_arn(own).endswith(":ecr:eu-west-1:123456789012:repository/team/vllm")


@pytest.mark.parametrize(
    ("queue", "reader", "hours", "most"),
    [("SHADOW", "shadow", 1, MAX_CONCURRENCY), ("COLLECT", "keep", collect.KEEP_HOURS, 2)],
)
def test_chat_sends_to_an_encrypted_queue_that_its_function_reads(
    assembly: Assembly, queue: str, reader: str, hours: int, most: int
) -> None:
    functions = assembly.functions()
    url = text(functions["chat"]["Environment"]["Variables"][f"DROPFORGE_{queue}_QUEUE"])
    queues = assembly.properties("AWS::SQS::Queue", "DropforgeServing")
    chats = queues[url.strip("<>")]
    letters = queues[text(chats["RedrivePolicy"]["deadLetterTargetArn"])[1:-5]]
    mappings = assembly.properties("AWS::Lambda::EventSourceMapping", "DropforgeServing").values()
    (mapping,) = (m for m in mappings if text(m["EventSourceArn"]) == url.replace(">", ".Arn>"))

    assert chats["MessageRetentionPeriod"] == hours * 3600
    assert letters["MessageRetentionPeriod"] == 86400
    assert all(found["KmsMasterKeyId"] for found in (chats, letters))
    assert chats["RedrivePolicy"]["maxReceiveCount"] == 3
    assert chats["VisibilityTimeout"] >= 6 * functions[reader]["Timeout"]
    assert reader.capitalize() in text(mapping["FunctionName"])
    assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    assert mapping["ScalingConfig"]["MaximumConcurrency"] == most


def test_a_batch_of_shadows_fits_the_functions_time(assembly: Assembly) -> None:
    """Each message may take the chat's deadline and four looks into the registry."""
    shadow = assembly.functions()["shadow"]
    deadline = float(shadow["Environment"]["Variables"]["DROPFORGE_DEADLINE_SECONDS"])

    assert BATCH * (deadline + 4 * REGISTRY_SECONDS) < shadow["Timeout"]


@pytest.mark.parametrize("function", ["Chat", "Shadow"])
def test_chat_path_changes_nothing_of_an_item_but_a_canarys_numbers(
    assembly: Assembly, function: str
) -> None:
    (statement,) = (
        statement
        for name, statement in assembly.statements()
        if name.startswith(f"{function}Role")
        and "dynamodb:UpdateItem" in listed(statement["Action"])
        and "Cache" not in text(statement["Resource"])
        and "budget#" not in str(statement["Condition"])
    )
    written = statement["Condition"]["ForAllValues:StringEquals"]["dynamodb:Attributes"]

    assert listed(statement["Action"]) == ["dynamodb:UpdateItem"]
    assert set(written) == {"pk", "sk", *msgspec.structs.asdict(FAILED)}
    assert not {"version", "backend", "model_id", "canary", "revision"} & set(written)


def may_put(assembly: Assembly, function: str, pk: str) -> set[str]:
    """The attributes that a function may write of a new item of the registry, under such keys."""
    (statement,) = (
        statement
        for name, statement in assembly.statements()
        if name.startswith(f"{function}Role")
        and "dynamodb:PutItem" in listed(statement["Action"])
        and "Cache" not in text(statement["Resource"])
    )
    assert listed(statement["Action"]) == ["dynamodb:PutItem"]
    assert statement["Condition"]["ForAllValues:StringLike"] == {"dynamodb:LeadingKeys": [pk]}
    return set(statement["Condition"]["ForAllValues:StringEquals"]["dynamodb:Attributes"])


class Written:
    """A table that keeps what is put, as `dropforge.backends.awsapi.Table` is called."""

    def __init__(self) -> None:
        self.attributes: set[str] = set()

    def put(self, item: dict[str, Any], *, condition: str, **_: Any) -> None:
        self.attributes |= {*item, *re.findall(r"\b(?:pk|rating|taken_at)\b", condition)}


def test_chat_may_write_exactly_what_it_writes_of_a_rating(assembly: Assembly) -> None:
    written = Written()
    feedback = Feedback("a.v1.champion", 1, "Quick.", "shop/v1")
    ProjectStore(written).rate("shop", feedback, by="site", at=1.0)  # type: ignore[arg-type]

    assert may_put(assembly, "Chat", "project#*") == written.attributes


def test_shadow_may_write_exactly_what_it_writes_of_a_message(
    assembly: Assembly, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    shadow, written = Shadow(ChatSettings("registry")), Written()
    monkeypatch.setattr(shadow, "_table", written)

    assert shadow._claim(ShadowChat("shop", 1, {}), "shadowed#m1")
    assert may_put(assembly, "Shadow", "project#*") == written.attributes


def test_chat_path_may_not_write_who_answers(assembly: Assembly) -> None:
    for function in ("Chat", "Shadow"):
        assert not {"version", "backend", "model_id", "canary", "revision"} & may_put(
            assembly, function, "project#*"
        )


@pytest.mark.parametrize("queue", ["Shadows", "Collected"])
def test_only_chat_sends_to_its_queues(assembly: Assembly, queue: str) -> None:
    senders = {
        name.partition("Role")[0]
        for name, statement in assembly.statements()
        if "sqs:SendMessage" in listed(statement["Action"]) and queue in text(statement["Resource"])
    }

    assert senders == {"Chat"}


def test_keep_may_write_answers_and_nothing_else(assembly: Assembly) -> None:
    assert may_put(assembly, "Keep", "collected#*") == {"pk", "sk", *STORED}
    assert not {"version", "backend", "model_id", "rating", "hash"} & may_put(
        assembly, "Keep", "collected#*"
    )
