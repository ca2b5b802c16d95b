"""The chat function's job as FastAPI, Mangum and the openai SDK do it, written plainly.

The project of the caller's token → its champion and configuration from the registry, remembered for
as long as the chat function does → the provider's key → the model → the answer under the version's
name. It reads the registry and the key without boto3 and without signing, which would cost it more.
`handler` is for Lambda, `app` for uvicorn, where the token's project is looked up in a dictionary.
"""

import json
import os
import time
from typing import Any

import httpx2
from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import StreamingResponse
from mangum import Mangum
from openai import AsyncOpenAI
from pydantic import BaseModel, ConfigDict

AWS = os.environ["AWS_ENDPOINT_URL"]
TABLE = os.environ["DROPFORGE_TABLE"]
PROVIDERS = json.loads(os.environ["DROPFORGE_PROVIDERS"])
TOKENS = {"df-example-token": "shop"}
SECONDS = {"champion": 2.0, "config": 10.0, "key": 300.0}

app = FastAPI()
aws = httpx2.AsyncClient()
known: dict[tuple[str, str], tuple[float, Any]] = {}
clients: dict[str, AsyncOpenAI] = {}


class Message(BaseModel):
    model_config = ConfigDict(extra="allow")
    role: str
    content: Any = None


class ChatRequest(BaseModel):
    model_config = ConfigDict(extra="allow")
    model: str | None = None
    messages: list[Message]
    stream: bool = False


async def call(target: str, payload: Any) -> Any:
    answer = await aws.post(AWS, json=payload, headers={"X-Amz-Target": target})
    answer.raise_for_status()
    return answer.json()


async def remembered(project: str, what: str) -> Any:
    until, value = known.get((project, what), (0.0, None))
    if time.monotonic() < until:
        return value
    if what == "key":
        secret = PROVIDERS["openai"]["secret_arn"]
        value = (await call("secretsmanager.GetSecretValue", {"SecretId": secret}))["SecretString"]
    else:
        key = {"pk": {"S": f"project#{project}"}, "sk": {"S": what}}
        found = await call("DynamoDB_20120810.GetItem", {"TableName": TABLE, "Key": key})
        value = {name: next(iter(typed.values())) for name, typed in found["Item"].items()}
    known[project, what] = (time.monotonic() + SECONDS[what], value)
    return value


def project_of(request: Request) -> str:
    event = request.scope.get("aws.event")
    if event is not None:
        return str(event["requestContext"]["authorizer"]["projects"])
    token = request.headers.get("authorization", "").removeprefix("Bearer ")
    if token not in TOKENS:
        raise HTTPException(401, "Send `Authorization: Bearer <token>`.")
    return TOKENS[token]


@app.post("/v1/chat/completions")
async def chat(request: Request, asked: ChatRequest) -> Any:
    project = project_of(request)
    if (asked.model or project) != project:
        raise HTTPException(404, "The model does not exist.")
    config = await remembered(project, "config")
    champion = await remembered(project, "champion")
    key = await remembered(project, "key")
    if key not in clients:
        clients[key] = AsyncOpenAI(base_url=PROVIDERS["openai"]["base_url"], api_key=key)
    fields = asked.model_dump(exclude_unset=True, exclude={"model"})
    if not any(message.role == "system" for message in asked.messages):
        fields["messages"].insert(0, {"role": "system", "content": config["system_prompt"]})
    name = f"{project}/{champion['version']}"
    answer = await clients[key].chat.completions.create(model=champion["model_id"], **fields)
    if not asked.stream:
        answer.model = name
        return answer

    async def events() -> Any:
        async for chunk in answer:
            chunk.model = name
            yield f"data: {chunk.model_dump_json()}\n\n"
        yield "data: [DONE]\n\n"

    return StreamingResponse(events(), media_type="text/event-stream")


handler = Mangum(app, lifespan="off")
