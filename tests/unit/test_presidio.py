from __future__ import annotations

import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest

from dropforge.clean.presidio import PresidioRedactor
from dropforge.errors import ProjectError

ROOT = Path(__file__).resolve().parents[2]
PEERS = ROOT / ".venv-peers/bin/python"
# The package's __init__ needs what only .venv has; the redactors do not.
PROBE = """
import sys, types
package = types.ModuleType("dropforge.clean")
package.__path__ = ["dropforge/clean"]
sys.modules["dropforge.clean"] = package
from dropforge.clean.presidio import PresidioRedactor
redact = PresidioRedactor(names=["Bob"], keep=["help@shop.example"])
text = "Yesterday Angela Merkel met Bob in Chicago; write to "
print(redact(text + "help@shop.example or ann@x.example"))
print(redact("my password: hunter22, and Angela Merkel knows it"))
print(sorted(redact.found.items()))
"""


@pytest.mark.skipif(find_spec("presidio_analyzer") is not None, reason="Presidio is installed")
def test_message_says_what_to_install_where_presidio_is_absent() -> None:
    with pytest.raises(ProjectError, match=r"pip install dropforge\[presidio\]"):
        PresidioRedactor()


@pytest.mark.skipif(not PEERS.exists(), reason="no .venv-peers, which has Presidio")
def test_names_that_nobody_labelled_are_replaced() -> None:
    done = subprocess.run(
        [str(PEERS), "-W", "ignore", "-c", PROBE],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    first, second, found = done.stdout.splitlines()
    assert first == (
        "Yesterday [NAME_1] met [NAME_2] in [ADDRESS_1]; write to help@shop.example or [EMAIL_1]"
    )
    assert second == "my password: [PASSWORD_1], and [NAME_1] knows it"
    assert "('EMAIL', 1)" in found.replace("<Kind.EMAIL: 'EMAIL'>", "'EMAIL'")
