from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from infra.asset import AUTHORIZE, CHAT, DATA, PIPELINE, Asset, Target, bundle, digest, source_files
from infra.config import ROOT, Settings
from tests.infra.assembly import Assembly

HERE = f"{sys.version_info.major}.{sys.version_info.minor}"
PROBE = """
import importlib, json, pathlib, sys
sys.path[:] = [path for path in sys.path if "site-packages" not in path] + [sys.argv[1]]
for handler in json.loads(sys.argv[2]):
    module, _, attribute = handler.rpartition(".")
    assert callable(getattr(importlib.import_module(module), attribute)), handler
for parser in pathlib.Path(sys.argv[1]).glob("dropforge/judges/*/parser.py"):
    importlib.import_module(f"dropforge.judges.{parser.parent.name}.parser")
outside = [
    name for name, module in sys.modules.items()
    if (place := getattr(module, "__file__", None)) and "site-packages" in place
]
assert not outside, outside
"""


@pytest.fixture(scope="module")
def here(settings: Settings) -> Target:
    """The running interpreter, on the platform of current Lambda runtimes."""
    platform = "x86_64-manylinux_2_28"
    return Target.of(settings.model_copy(update={"python": HERE, "platform": platform}))


def content(folder: Path) -> dict[str, bytes]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.fixture(scope="module", params=[PIPELINE, DATA, CHAT], ids=lambda asset: asset.name)
def built(
    request: pytest.FixtureRequest, here: Target, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Asset, Path]:
    """Each asset that is uploaded, and the folder that it was built into."""
    folder = tmp_path_factory.mktemp(request.param.name)
    bundle(request.param, here, folder)
    return request.param, folder


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A small repository with one asset that has one package."""
    root = tmp_path / "repository"
    (root / "dropforge").mkdir(parents=True)
    (root / "dropforge" / "__init__.py").write_text("")
    (root / "requirements").mkdir()
    shutil.copy(ROOT / "requirements" / "chat.txt", root / "requirements" / "small.txt")
    return root


def parts(files: Iterable[Path], root: Path) -> set[str]:
    """The modules and packages of `dropforge` that the files are of."""
    inside = (file.relative_to(root).parts for file in files)
    return {path[1] for path in inside if path[0] == "dropforge"}


SMALL = Asset("small", ("dropforge", "lambdas/not_written_yet"))


def test_every_handler_imports_with_the_packages_of_its_asset_alone(
    built: tuple[Asset, Path], assembly: Assembly
) -> None:
    asset, folder = built
    handlers = [
        function["Handler"]
        for function in assembly.functions().values()
        if any(
            path.relative_to(ROOT).as_posix()
            == function["Handler"].rpartition(".")[0].replace(".", "/") + ".py"
            for path in source_files(asset)
        )
    ]

    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", PROBE, str(folder), json.dumps(handlers)],
        env={"AWS_DEFAULT_REGION": "us-east-1"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert handlers
    assert done.returncode == 0, done.stderr


def test_unpacked_asset_fits_what_lambda_takes(built: tuple[Asset, Path]) -> None:
    """AWS Lambda quotas: 250 MB for the unpacked deployment package."""
    size = sum(path.stat().st_size for path in built[1].rglob("*") if path.is_file())
    assert size < 240e6


def test_every_function_has_a_handler_in_its_asset(assembly: Assembly) -> None:
    shipped = {
        p.relative_to(ROOT).as_posix() for a in (PIPELINE, DATA, CHAT) for p in source_files(a)
    }
    wanted = {
        function["Handler"].rpartition(".")[0].replace(".", "/") + ".py"
        for function in assembly.functions().values()
    }

    assert wanted <= shipped


def test_the_same_sources_are_bundled_to_the_same_bytes(
    repository: Path, here: Target, tmp_path: Path
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
        bundle(SMALL, here, folder, repository)
        shutil.rmtree(repository / "build")

    assert content(first) == content(second)
    assert "dropforge/__init__.py" in content(first)


@pytest.mark.parametrize("asset", [PIPELINE, DATA, CHAT, AUTHORIZE], ids=lambda a: a.name)
def test_the_command_is_in_no_asset(asset: Asset) -> None:
    assert "cli" not in parts(source_files(asset), ROOT)


def test_a_person_does_not_wait_for_what_only_the_pipeline_needs() -> None:
    pipeline = {"clean", "export", "judge", "judges", "plots", "reports", "statistics", "validate"}

    assert pipeline <= parts((ROOT / "dropforge").rglob("*.py"), ROOT)
    assert not parts(source_files(CHAT), ROOT) & pipeline


def test_what_is_imported_is_shipped_with_what_lies_beside_it(repository: Path) -> None:
    for path, text in {
        "dropforge/used/__init__.py": "def f():\n    from dropforge import later\n",
        "dropforge/used/read.json": "{}",
        "dropforge/later.py": "",
        "dropforge/typed.py": "",
        "dropforge/cli/__init__.py": "",
        "lambdas/small.py": "from dropforge.used import f\n"
        "if TYPE_CHECKING:\n    import dropforge.typed\n",
    }.items():
        (repository / path).parent.mkdir(exist_ok=True)
        (repository / path).write_text(text)

    found = list(source_files(Asset("small", ("lambdas/small.py",)), repository))

    assert parts(found, repository) == {"__init__.py", "used", "later.py"}
    assert repository / "dropforge/used/read.json" in found


def test_scripts_stay_executable_and_their_mode_is_part_of_the_hash(
    repository: Path, here: Target, tmp_path: Path
) -> None:
    script = repository / "dropforge" / "bootstrap"
    script.write_text("#!/bin/sh\n")
    plain = digest(SMALL, here, repository)
    script.chmod(0o755)
    bundle(SMALL, here, tmp_path / "built", repository)

    assert digest(SMALL, here, repository) != plain
    assert (tmp_path / "built" / "dropforge" / "bootstrap").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "built" / "dropforge" / "__init__.py").stat().st_mode & 0o777 == 0o644


def test_byte_code_is_shipped_for_every_source_of_ours(
    repository: Path, here: Target, tmp_path: Path
) -> None:
    into = tmp_path / "asset"
    into.mkdir()

    bundle(SMALL, here, into, repository)

    tag = sys.implementation.cache_tag
    compiled = (into / "dropforge" / "__pycache__" / f"__init__.{tag}.pyc").read_bytes()
    assert int.from_bytes(compiled[4:8], "little") == 0b01  # hash-based, not checked


def test_no_byte_code_is_shipped_for_an_interpreter_that_is_not_here(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    other = Target("3.12" if HERE != "3.12" else "3.13", "x86_64-manylinux_2_28")
    into = tmp_path / "asset"
    into.mkdir()

    bundle(SMALL, other, into, repository)

    assert other.interpreter is None
    assert not list((into / "dropforge").rglob("*.pyc"))


def test_the_hash_follows_sources_lock_and_target_only(repository: Path, here: Target) -> None:
    before = digest(SMALL, here, repository)

    (repository / "README.md").write_text("not part of the asset")
    assert digest(SMALL, here, repository) == before

    (repository / "dropforge" / "__init__.py").write_text("VERSION = 1\n")
    edited = digest(SMALL, here, repository)
    (repository / "requirements" / "small.txt").write_text("")
    unlocked = digest(SMALL, here, repository)
    elsewhere = digest(SMALL, Target(here.python, "aarch64-manylinux_2_28"), repository)

    assert len({before, edited, unlocked, elsewhere}) == 4


def test_target_follows_python_version_and_architecture(settings: Settings) -> None:
    arm = settings.model_copy(update={"architecture": "arm64", "python": "3.11"})
    mac = settings.model_copy(update={"platform": "aarch64-apple-darwin"})

    assert Target.of(settings).platform == "x86_64-manylinux_2_28"
    assert Target.of(arm).platform == "aarch64-manylinux_2_17"
    assert Target.of(mac).platform == "aarch64-apple-darwin"
