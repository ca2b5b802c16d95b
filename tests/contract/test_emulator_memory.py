"""What the emulator does not hold in memory: code, objects, old logs, idle workers, events."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from contract_parts import ROLE, client_for
from memory_probe import INVOCATIONS

from local import deploy, patches
from local.assembly import FileAsset

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv-emulator" / "bin" / "python"
SIZE = 20 * 10**6
FUNCTIONS = 8
HANDLER = (
    "import os\n"
    "def handler(event, context):\n"
    "    return [os.path.realpath(__file__), os.path.getsize(os.path.dirname(__file__) + '/big')]\n"
)


def test_functions_of_one_archive_run_from_its_folder_and_take_no_memory_for_it(
    restarting: Callable[[], Any], tmp_path: Path
) -> None:
    folder = tmp_path / "cdk.out" / "asset.1"
    folder.mkdir(parents=True)
    (folder / "main.py").write_text(HANDLER)
    (folder / "big").write_bytes(os.urandom(SIZE))
    names = [f"f{number}" for number in range(FUNCTIONS)]
    with restarting() as url:
        deploy.upload(client_for(url, "s3"), FileAsset(folder, "assets", "1.zip", True), tmp_path)
        create(url, names[0])
        before = resident()
        for name in names[1:]:
            create(url, name)
        grown = resident() - before
        answers = [invoke(url, name) for name in names]
    assert grown < SIZE
    assert answers == [[str(folder / "main.py"), SIZE]] * FUNCTIONS
    with restarting() as url:
        assert invoke(url, names[-1]) == answers[0]


def test_versions_of_an_object_are_all_there_but_not_in_memory(
    restarting: Callable[[], Any],
) -> None:
    contents = [bytes([number]) * SIZE for number in range(8)]
    with restarting() as url:
        s3 = client_for(url, "s3")
        s3.create_bucket(Bucket="versions")
        s3.put_bucket_versioning(Bucket="versions", VersioningConfiguration={"Status": "Enabled"})
        versions = [put(s3, content) for content in contents[:2]]
        before = resident()
        versions += [put(s3, content) for content in contents[2:]]
        grown = resident() - before
        assert [get(s3, version) for version in versions] == contents
        s3.delete_object(Bucket="versions", Key="k", VersionId=versions.pop())
        assert s3.get_object(Bucket="versions", Key="k")["Body"].read() == contents[-2]
    assert grown < 3 * SIZE
    with restarting():
        assert [get(s3, version) for version in versions] == contents[:-1]


def put(s3: Any, content: bytes) -> str:
    version: str = s3.put_object(Bucket="versions", Key="k", Body=content)["VersionId"]
    return version


def get(s3: Any, version: str) -> bytes:
    content: bytes = s3.get_object(Bucket="versions", Key="k", VersionId=version)["Body"].read()
    return content


def create(url: str, name: str) -> None:
    client_for(url, "lambda").create_function(
        FunctionName=name, Runtime="python3.13", Role=ROLE, Handler="main.handler", Timeout=10,
        Code={"S3Bucket": "assets", "S3Key": "1.zip"},
    )  # fmt: skip


def invoke(url: str, name: str) -> Any:
    return json.load(client_for(url, "lambda").invoke(FunctionName=name)["Payload"])


def resident() -> int:
    """Bytes of the youngest emulator that this process has started."""
    found = [
        process
        for process in psutil.Process().children()
        if process.status() != psutil.STATUS_ZOMBIE and "local.emulator" in process.cmdline()
    ]
    return int(max(found, key=psutil.Process.create_time).memory_info().rss)


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What memory_probe.py prints."""
    script = Path(__file__).parent / "memory_probe.py"
    ran = subprocess.run(
        [PYTHON, script, tmp_path_factory.mktemp("memory")],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    found: dict[str, Any] = json.loads(ran.stdout)
    return found


def test_logs_hold_a_functions_last_invocations(left: dict[str, Any]) -> None:
    oldest = INVOCATIONS - patches.MAX_LOGGED_INVOCATIONS
    assert left["logs"] == [str(number) for number in range(oldest, INVOCATIONS)]


def test_idle_workers_are_ended_and_busy_ones_are_not(left: dict[str, Any]) -> None:
    assert left["workers"] == {"early": 0, "ended": 1, "alive": [True, False]}


def test_events_are_not_held(left: dict[str, Any]) -> None:
    assert left["events"] == 0
