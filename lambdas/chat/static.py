"""The files that the API serves as they are: the chat page, and the API's description.

Read when first asked for: who asks for an answer does not wait for them.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import re
from pathlib import Path

from lambdas.chat.edge import Answer

PAGE = Path(__file__).with_name("page") / "index.html"
DESCRIPTION = Path(__file__).parents[2] / "dropforge" / "serve" / "openapi.json"
CACHED = {"Cache-Control": "public, max-age=300", "X-Content-Type-Options": "nosniff"}


@functools.lru_cache(maxsize=1)
def page() -> Answer:
    """The chat page, with a policy by which a browser runs this script and no other."""
    html = PAGE.read_text("utf-8")
    policy = (
        "default-src 'none'; connect-src 'self'; img-src data:; base-uri 'none'; "
        f"form-action 'none'; frame-ancestors 'none'; script-src {_hash(html, 'script')}; "
        f"style-src {_hash(html, 'style')}; require-trusted-types-for 'script'"
    )
    guards = {
        "Content-Security-Policy": policy,
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Opener-Policy": "same-origin",
    }
    return Answer(200, html, content_type="text/html; charset=utf-8", headers={**CACHED, **guards})


@functools.lru_cache(maxsize=1)
def description() -> Answer:
    """The OpenAPI document of what is served here."""
    return Answer(200, DESCRIPTION.read_text("utf-8"), headers=dict(CACHED))


def _hash(html: str, element: str) -> str:
    """The source expression that allows the one inline element of this name."""
    [text] = re.findall(rf"<{element}>(.*?)</{element}>", html, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"'sha256-{digest}'"
