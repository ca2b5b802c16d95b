"""What a Lambda function is uploaded as: our sources, locked packages and their byte code.

Reads `lambdas/<function>/`, what that imports of `dropforge/`, and `requirements/<asset>.txt`;
writes a folder that a Lambda runtime imports from. No Docker: `uv` fetches the wheels of the
target's Python and platform. The packages of a lock are built once per target and kept under
`build/lambda/`.
"""

from __future__ import annotations

import ast
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from infra.config import ROOT, Settings

FORMAT = "asset/3"
"""Part of every hash: raise it when the way of building changes what is built."""

_LEFT_OUT = ("__pycache__", "py.typed")


class BundlingError(RuntimeError):
    """An asset could not be built."""


@dataclass(frozen=True)
class Asset:
    """Sources (paths in the repository), what they import of `dropforge`, and locked packages."""

    name: str
    sources: tuple[str, ...]

    @property
    def lock(self) -> str:
        return f"requirements/{self.name}.txt"


def _asset(name: str, *parts: str) -> Asset:
    return Asset(name, tuple(f"lambdas/{part}" for part in ("__init__.py", *parts)))


PIPELINE = _asset(
    "pipeline",
    *("edge.py", "providers.py", "approve", "chat", "check", "drift", "drop", "fail", "judge"),
    *("promote", "rollback", "schedule", "shadow", "train", "watch", "webhook"),
)
DATA = _asset("data", "edge.py", "clean", "collect", "extract", "validate")
CHAT = _asset("chat", "authorize", "chat")
AUTHORIZE = _asset("authorize", "authorize")
"""The authorizer with what checks JWTs, which is ten times the chat function's packages."""


@dataclass(frozen=True)
class Target:
    """The interpreter and the machine that an asset is built for."""

    python: str
    platform: str

    @classmethod
    def of(cls, settings: Settings) -> Target:
        """The Lambda runtime of the settings.

        Runtimes from 3.12 on run on Amazon Linux 2023 (glibc 2.34), older ones on Amazon Linux 2
        (glibc 2.26).
        """
        machine = {"x86_64": "x86_64", "arm64": "aarch64"}[settings.architecture]
        minor = int(settings.python.partition(".")[2])
        glibc = "manylinux_2_28" if minor >= 12 else "manylinux_2_17"
        return cls(settings.python, settings.platform or f"{machine}-{glibc}")

    @property
    def interpreter(self) -> str | None:
        """A local interpreter of the target's version, which can write its byte code, or None."""
        return _interpreter(self.python)


def digest(asset: Asset, target: Target, root: Path = ROOT) -> str:
    """A hash (64 hex digits) over all that decides the built asset's content."""
    content = hashlib.sha256(_package_digest(asset, target, root).encode())
    for path in source_files(asset, root):
        content.update(path.relative_to(root).as_posix().encode() + b"\0")
        content.update(b"x" if _executable(path) else b"-")
        content.update(hashlib.sha256(path.read_bytes()).digest())
    return content.hexdigest()


def bundle(asset: Asset, target: Target, into: Path, root: Path = ROOT) -> None:
    """Fill the empty folder `into` with the built asset.

    Raises:
        BundlingError: a package could not be installed or a source does not compile.
    """
    shutil.copytree(_packages(asset, target, root), into, copy_function=_link, dirs_exist_ok=True)
    for path in source_files(asset, root):
        place = into / path.relative_to(root)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place)
        place.chmod(0o755 if _executable(path) else 0o644)
    _compile(target, into, [into / "dropforge", into / "lambdas"])


def source_files(asset: Asset, root: Path = ROOT) -> Iterator[Path]:
    """Our own files in the asset, in a fixed order. A source that does not exist is skipped."""
    own = [file for source in asset.sources for file in _files(root / source)]
    yield from own
    for part in sorted(_imported(own, root)):
        yield from _files(part)


def _files(path: Path) -> Iterator[Path]:
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if file.is_file() and not set(file.parts) & set(_LEFT_OUT):
            yield file


def _imported(files: Iterable[Path], root: Path) -> set[Path]:
    """What the files import of `dropforge`, and what that imports.

    Each module or package right below `dropforge` is shipped whole: what it reads or runs by its
    path lies beside it.
    """
    todo = [file for file in files if file.suffix == ".py"]
    seen = set(todo)
    while todo:
        for name in _imports(ast.parse(todo.pop().read_bytes())):
            found = [file for file in _modules(name, root) if file not in seen]
            seen.update(found)
            todo += found
    ours = root / "dropforge"
    return {ours / file.relative_to(ours).parts[0] for file in seen if file.is_relative_to(ours)}


def _imports(node: ast.AST) -> Iterator[str]:
    """Names of modules (and of what may be one) that are imported anywhere at run time."""
    for child in ast.iter_child_nodes(node):
        match child:
            case ast.If(test=ast.Name(id="TYPE_CHECKING")):
                continue
            case ast.Import(names=names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module=str(module), names=names):
                yield from (f"{module}.{alias.name}" for alias in names)
            case _:
                yield from _imports(child)


def _modules(name: str, root: Path) -> Iterator[Path]:
    """The files of a module of ours and of the packages that it is in."""
    parts = name.split(".")
    if parts[0] == "dropforge":
        for end in range(1, len(parts) + 1):
            path = root.joinpath(*parts[:end])
            yield from filter(Path.is_file, (path / "__init__.py", path.with_suffix(".py")))


def _executable(path: Path) -> bool:
    return bool(path.stat().st_mode & 0o100)


def _package_digest(asset: Asset, target: Target, root: Path) -> str:
    lock = (root / asset.lock).read_bytes()
    compiled = "compiled" if target.interpreter else "sources"
    parts = (FORMAT, asset.name, target.python, target.platform, compiled)
    return hashlib.sha256("\0".join(parts).encode() + b"\0" + lock).hexdigest()


def _packages(asset: Asset, target: Target, root: Path) -> Path:
    """The folder of the asset's installed packages, built on first use."""
    known = root / "build" / "lambda" / f"{asset.name}-{_package_digest(asset, target, root)[:16]}"
    if known.is_dir():
        return known
    known.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=known.parent, prefix=".building-") as folder:
        built = Path(folder) / "packages"
        built.mkdir()
        _install(root / asset.lock, target, built)
        _compile(target, built, [built])
        try:
            built.rename(known)
        except OSError:
            if not known.is_dir():
                raise
    return known


def _install(lock: Path, target: Target, into: Path) -> None:
    command = [
        *(_uv(), "pip", "install", "--quiet", "--target", str(into), "--python", sys.executable),
        *("--python-version", target.python, "--python-platform", target.platform),
        *("--only-binary", ":all:", "--no-deps", "--require-hashes", "--link-mode", "copy"),
        *("--no-compile-bytecode", "--requirement", str(lock)),
    ]
    done = _run(command)
    if done.returncode:
        raise BundlingError(
            f"The packages of {lock.name} could not be installed for Python {target.python} on"
            f" {target.platform}. Check the network and the context values `python`, `architecture`"
            f" and `platform`. uv said:\n{done.stderr.strip()}"
        )
    for unneeded in (into / "bin", *into.glob("numpy/**/tests")):
        shutil.rmtree(unneeded, ignore_errors=True)
    (into / ".lock").unlink(missing_ok=True)


def _compile(target: Target, base: Path, folders: list[Path]) -> None:
    """Write byte code that is used unchecked: file times mean nothing inside a zip."""
    python = target.interpreter
    if python is None:
        return
    command = [
        *(python, "-I", "-m", "compileall", "-q", "-j", "1", "-s", str(base)),
        *("--invalidation-mode", "unchecked-hash"),
        *(str(folder) for folder in folders if folder.is_dir()),
    ]
    done = _run(command)
    if done.returncode:
        raise BundlingError(f"A source of the asset does not compile:\n{done.stdout}{done.stderr}")


@cache
def _interpreter(version: str) -> str | None:
    if version == f"{sys.version_info.major}.{sys.version_info.minor}":
        return sys.executable
    found = shutil.which(f"python{version}")
    if found is None:
        return None
    probe = [found, "-I", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
    done = _run(probe)
    return found if done.returncode == 0 and done.stdout.strip() == version else None


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603


@cache
def _uv() -> str:
    beside = Path(sys.executable).parent / "uv"
    found = str(beside) if beside.exists() else shutil.which("uv")
    if found is None:
        raise BundlingError("uv is needed to build Lambda assets: `python -m pip install uv`.")
    return found


def _link(source: str, place: str) -> None:
    """A hard link where the file system allows one, because each synthesis needs the same files."""
    try:
        os.link(source, place)
    except OSError:
        shutil.copyfile(source, place)
