"""The deployer, on small cloud assemblies written by hand as the CDK writes them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from local import deploy
from local.settings import Settings

AWS = Callable[[str], Any]
Stacks = dict[str, tuple[dict[str, Any], list[str]]]
BUCKET = "cdk-hnb659fds-assets-${AWS::AccountId}-${AWS::Region}"
HANDLER = "def handler(event, context):\n    return {answer!r}\n"


def write_assembly(folder: Path, stacks: Stacks, sources: dict[str, str] | None = None) -> None:
    """Writes manifest, templates and asset manifests; `sources` become one zip asset, `code`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in (sources or {}).items():
        (folder / "asset.code").mkdir(exist_ok=True)
        (folder / "asset.code" / name).write_text(text)
    artifacts: dict[str, Any] = {}
    for name, (template, dependencies) in stacks.items():
        (folder / f"{name}.template.json").write_text(json.dumps(template))
        files = {name: _file(f"{name}.template.json", "file", f"{name}.json")}
        if sources:
            key = f"{abs(hash(json.dumps(sources)))}.zip"
            files["code"] = _file("asset.code", "zip", key)
        (folder / f"{name}.assets.json").write_text(json.dumps({"files": files}))
        artifacts[f"{name}.assets"] = {
            "type": "cdk:asset-manifest",
            "properties": {"file": f"{name}.assets.json"},
        }
        artifacts[name] = {
            "type": "aws:cloudformation:stack",
            "properties": {"templateFile": f"{name}.template.json"},
            "dependencies": [*dependencies, f"{name}.assets"],
        }
    (folder / "manifest.json").write_text(json.dumps({"artifacts": artifacts}))


def _file(path: str, packaging: str, key: str) -> dict[str, Any]:
    return {
        "source": {"path": path, "packaging": packaging},
        "destinations": {"here": {"bucketName": BUCKET, "objectKey": key}},
    }


def parameter(value: Any) -> dict[str, Any]:
    properties = {"Name": "/try/value", "Type": "String", "Value": value}
    return {"Type": "AWS::SSM::Parameter", "Properties": properties}


@pytest.fixture
def deployment(
    instance: Settings, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., dict[str, str]]:
    """Deploys stacks as if they were this project's; what became of each."""
    monkeypatch.setattr(deploy, "synthesise", lambda _: False)

    def deployed(stacks: Stacks, sources: dict[str, str] | None = None) -> dict[str, str]:
        write_assembly(instance.assembly, stacks, sources)
        return deploy.deploy(instance).stacks

    return deployed


def test_stacks_are_created_in_order_then_unchanged_then_updated(
    deployment: Callable[..., dict[str, str]], aws: AWS
) -> None:
    def stacks(value: str) -> Stacks:
        first = {
            "Parameters": {
                "BootstrapVersion": {
                    "Type": "AWS::SSM::Parameter::Value<String>",
                    "Default": deploy.BOOTSTRAP_PARAMETER,
                }
            },
            "Resources": {"Topic": {"Type": "AWS::SNS::Topic", "Properties": {"TopicName": "t"}}},
            "Outputs": {"Out": {"Value": value, "Export": {"Name": "first-out"}}},
        }
        second = {"Resources": {"P": parameter({"Fn::ImportValue": "first-out"})}}
        return {"Second": (second, ["First"]), "First": (first, [])}

    assert deployment(stacks("1")) == {"First": "created", "Second": "created"}
    assert aws("ssm").get_parameter(Name="/try/value")["Parameter"]["Value"] == "1"
    assert deployment(stacks("1")) == {"First": "unchanged", "Second": "unchanged"}
    changed = stacks("1")
    changed["Second"][0]["Resources"]["P"]["Properties"]["Description"] = "new"
    assert deployment(changed) == {"First": "unchanged", "Second": "updated"}


def test_function_code_is_uploaded_and_replaced(
    deployment: Callable[..., dict[str, str]], aws: AWS
) -> None:
    def stack(key: str) -> Stacks:
        code = {"S3Bucket": {"Fn::Sub": BUCKET}, "S3Key": key}
        function = {
            "Type": "AWS::Lambda::Function",
            "Properties": {
                "FunctionName": "answers", "Runtime": "python3.13", "Handler": "main.handler",
                "Role": "arn:aws:iam::000000000000:role/r", "Code": code,
            },
        }  # fmt: skip
        return {"Code": ({"Resources": {"F": function}}, [])}

    for answer in (1, 2):
        sources = {"main.py": HANDLER.format(answer=answer)}
        key = f"{abs(hash(json.dumps(sources)))}.zip"
        deployment(stack(key), sources)
        payload = aws("lambda").invoke(FunctionName="answers")["Payload"].read()
        assert json.loads(payload) == answer
        listed = aws("s3").list_objects_v2(Bucket="cdk-hnb659fds-assets-000000000000-us-east-1")
        assert [entry["Key"] for entry in listed["Contents"]] == [key]


def test_failed_stack_tells_the_resource_and_its_reason_then_can_be_deployed(
    deployment: Callable[..., dict[str, str]],
) -> None:
    odd = {"Type": "AWS::SQS::Queue", "Properties": {"VisibilityTimeout": -5}}
    broken = {"Resources": {"Odd": odd}}
    with pytest.raises(
        deploy.DeployError, match=r"Mended ended as \w+:\s+Odd \(AWS::SQS::Queue\): Invalid value"
    ):
        deployment({"Mended": (broken, [])})
    mended = {"Resources": {"Topic": {"Type": "AWS::SNS::Topic"}}}
    assert deployment({"Mended": (mended, [])}) == {"Mended": "created"}


def test_type_unknown_to_the_emulator_says_where_to_add_it(
    deployment: Callable[..., dict[str, str]],
) -> None:
    odd = {"Resources": {"Odd": {"Type": "AWS::Odd::Thing", "Properties": {}}}}
    with pytest.raises(deploy.DeployError, match=r"AWS::Odd::Thing[\s\S]*UNSUPPORTED"):
        deployment({"Odd": (odd, [])})


def test_failed_synthesis_shows_what_the_application_printed(
    settings: Settings, tmp_path: Path
) -> None:
    root = tmp_path / "checkout"
    (root / "infra").mkdir(parents=True)
    (root / "infra" / "__init__.py").write_text("")
    (root / "infra" / "app.py").write_text("raise SystemExit('the context is wrong')")
    (root / "cdk.json").write_text("{}")
    for name in ("dropforge", "lambdas", "requirements", "local"):
        (root / name).mkdir()
    (root / "local" / "settings.py").write_text("")
    broken = Settings(settings.port, tmp_path / "state", root)
    broken.__dict__["lambda_python"] = "3.11"
    with pytest.raises(deploy.DeployError, match="the context is wrong"):
        deploy.synthesise(broken)


def test_local_api_url_is_the_emulators_address_of_the_stage(settings: Settings) -> None:
    url = "https://abc123.execute-api.us-east-1.amazonaws.com/prod"
    expected = f"{settings.emulator_url}/_aws/execute-api/abc123/prod"
    assert deploy.local_api_url(settings, url) == expected
