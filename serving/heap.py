"""Memory that was needed for a moment only goes back to the system."""

from __future__ import annotations

import ctypes
import sys


def release() -> None:
    """Gives freed memory back to the system; to be called after loading something large.

    glibc keeps it for itself otherwise: 60 MB after the embedding model. Nothing happens elsewhere.
    """
    if sys.platform == "linux" and hasattr(library := ctypes.CDLL(None), "malloc_trim"):
        library.malloc_trim(0)
