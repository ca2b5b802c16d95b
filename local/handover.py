"""How a function's code gets into the emulator: as an archive that only says where the code lies.

The emulator holds each function's archive in memory, and hashes and unpacks it for every function
anew: 29 functions, 75 to 200 MB each. Deployer and emulator share this machine and its files, so
the archive that is uploaded holds one line, the path of the folder that was to be packed, relative
to the instance's. On AWS the folder itself is packed, by the CDK.
"""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Final

LINK: Final = "dropforge-code-folder"
EPOCH: Final = (1980, 1, 1, 0, 0, 0)


def archive(folder: Path, state: Path) -> bytes:
    """The zip archive that stands for a folder below `state`; the same folder gives the same bytes.

    Raises ValueError for a folder elsewhere.
    """
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as written:
        written.writestr(zipfile.ZipInfo(LINK, EPOCH), folder.relative_to(state).as_posix())
    return packed.getvalue()


def folder(archive: zipfile.ZipFile, state: Path) -> Path | None:
    """The folder that an archive stands for; None for one that holds the code itself."""
    if archive.namelist() != [LINK]:
        return None
    return state / archive.read(LINK).decode()
