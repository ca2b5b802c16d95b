"""Up and down: the three servers of the local default, the deployment, and the file to source.

Writes `env`, `run/*.pid` and `logs/*.log` below the state folder. Doing it twice is harmless: what
runs is left running and a changed template is deployed.
"""

from __future__ import annotations

import base64
import json
import secrets
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from local import deploy, processes, seed, template
from local.processes import Service
from local.settings import BASE_MODEL, Settings, SetupError

SERVICES: Final = ("emulator", "model server", "SageMaker stand-in")
Say = Callable[[str], None]


def emulator(settings: Settings) -> Service:
    """The AWS emulator, in its own virtual environment."""
    return Service(
        name="emulator",
        command=(
            str(settings.emulator_python), "-m", "local.emulator", "--port", str(settings.port),
            "--state", str(settings.state), "--sagemaker", settings.sagemaker_url,
        ),
        port=settings.port,
        health="/_ministack/health",
    )  # fmt: skip


def model_server(settings: Settings) -> Service:
    """The OpenAI-compatible server of the small models. Its first start converts the weights."""
    return Service(
        name="model server",
        command=(
            sys.executable, "-m", "serving.server", "--host", "127.0.0.1",
            "--port", str(settings.port + 1), "--state", str(settings.state / "serving"),
        ),
        port=settings.port + 1,
        health="/health",
        # Its threads and those of its trainings: spinning ones stand still where cores are busy.
        environment={"OMP_WAIT_POLICY": "passive"},
        seconds=300,
    )  # fmt: skip


def stand_in(settings: Settings) -> Service:
    """The SageMaker stand-in, which reads from the emulator's S3 as any client does."""
    return Service(
        name="SageMaker stand-in",
        command=(
            sys.executable, "-m", "local.sagemaker", "--port", str(settings.port + 2),
            "--state", str(settings.state / "sagemaker"), "--model-server", settings.model_url,
        ),
        port=settings.port + 2,
        health="/ping",
        environment=settings.client_environment,
    )  # fmt: skip


def services(settings: Settings) -> list[Service]:
    return [emulator(settings), model_server(settings), stand_in(settings)]


@contextmanager
def started(settings: Settings, wanted: list[Service], say: Say, tell: Say) -> Iterator[Say]:
    """Starts what does not run yet, all at once; yields a function that awaits one by its name.

    `say` shows passing progress, `tell` a line that stays. Raises SetupError; when nothing ran
    before, nothing is then left running.
    """
    missing = [found for found in wanted if processes.running(settings, found.name) is None]
    for service in missing:
        processes.require_free(service)
    began = time.monotonic()

    def ready(name: str) -> None:
        service = next(found for found in wanted if found.name == name)
        say(f"waiting for the {name}")
        processes.await_healthy(settings, service)
        again = "" if service in missing else " (was running)"
        seconds = time.monotonic() - began
        tell(f"{name:<18} 127.0.0.1:{service.port}  {seconds:5.1f} s{again}")

    try:
        for service in missing:
            processes.start(settings, service)
        yield ready
    except SetupError:
        if len(missing) == len(wanted):
            down(settings)
        raise


def start(settings: Settings, wanted: list[Service], say: Say, tell: Say) -> None:
    """Starts what does not run yet, and waits for each. Raises SetupError."""
    with started(settings, wanted, say, tell) as ready:
        for service in wanted:
            ready(service.name)


def up(settings: Settings, say: Say, tell: Say) -> None:
    """Brings the instance up: servers, stacks, seeds, `env`.

    The template is deployed while the model server still loads. Raises SetupError, DeployError,
    AssemblyError.
    """
    settings.state.mkdir(parents=True, exist_ok=True)
    with started(settings, services(settings), say, tell) as ready:
        ready("emulator")
        deployed = deploy.deploy(settings, say)
        tell(template.summary(deployed.stripped))
        stacks = ", ".join(f"{name} {what}" for name, what in deployed.stacks.items())
        spent = f"synth {deployed.synth_seconds:.1f} s, deploy {deployed.deploy_seconds:.1f} s"
        tell(f"{spent}: {stacks}")
        ready("SageMaker stand-in")
        ready("model server")
    outputs = deploy.outputs(settings)
    seed.seed(settings, outputs["bucket"], base_weights(settings), say)
    api_url = deploy.local_api_url(settings, outputs["api_url"])
    write_webhooks(settings, api_url)
    write_env(settings, api_url)


def base_weights(settings: Settings) -> Path | None:
    """The folder of converted base weights that the model server made, once it has."""
    found = sorted((settings.state / "serving").glob(f"**/{BASE_MODEL}/model.safetensors"))
    return found[0].parent if found else None


def write_webhooks(settings: Settings, api_url: str) -> None:
    """Has the model server send signed webhooks, and puts its signing secret in place, as ops does
    with the one that a provider's console shows."""
    file = settings.state / "serving" / "webhooks.json"
    if file.exists():
        secret = json.loads(file.read_text())["secret"]
    else:
        secret = "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
    file.write_text(json.dumps({"url": f"{api_url}/webhooks/openai", "secret": secret}))
    manager = deploy.session().client(
        "secretsmanager", endpoint_url=settings.emulator_url, config=deploy.client_config()
    )
    manager.put_secret_value(SecretId="dropforge/openai-webhook", SecretString=secret)


def write_env(settings: Settings, api_url: str) -> None:
    """Writes the shell file that leads clients to this instance."""
    values = {**settings.client_environment, "DROPFORGE_API_URL": api_url}
    lines = [f"export {name}={shlex.quote(value)}" for name, value in values.items()]
    path = shlex.quote(str(Path(sys.executable).parent))
    lines.append(f'case ":$PATH:" in *:{path}:*) ;; *) export PATH={path}:"$PATH" ;; esac')
    lines.append("unset AWS_PROFILE AWS_SESSION_TOKEN")
    temporary = settings.env_file.with_suffix(".new")
    temporary.write_text("\n".join(lines) + "\n")
    temporary.replace(settings.env_file)


def down(settings: Settings) -> list[str]:
    """Stops every process of the instance; the names of the services that were running.

    Temporary files of what ran are deleted.
    """
    stopped = list(processes.stop(settings, SERVICES))
    shutil.rmtree(settings.state / "tmp", ignore_errors=True)
    return stopped


def clean(settings: Settings) -> None:
    """Stops the instance and deletes its folder. Raises SetupError for a folder it did not make."""
    down(settings)
    if not settings.state.exists():
        return
    known = {
        "run",
        "logs",
        "emulator",
        "tmp",
        "serving",
        "sagemaker",
        "spark",
        "cdk.out",
        "synthesised",
    }
    strange = [p.name for p in settings.state.iterdir() if p.name not in known | {"env"}]
    if strange:
        raise SetupError(
            f"{settings.state} holds {', '.join(sorted(strange))}, which the local default did not"
            " write. Move it away, or delete the folder by hand."
        )
    shutil.rmtree(settings.state)
