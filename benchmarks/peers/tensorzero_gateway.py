"""TensorZero's gateway over HTTP: `python tensorzero_gateway.py <model's base URL> <port file>`.

Its own binary comes in a container image only. The Python client carries the same Rust gateway,
which `patch_openai_client` starts as an HTTP server in this process; Python then sleeps.
"""

import os
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import urlsplit

from openai import OpenAI
from tensorzero import patch_openai_client

CONFIG = """
[gateway]
observability.enabled = false

[models.shop]
routing = ["stub"]

[models.shop.providers.stub]
type = "openai"
model_name = "ft:shop:2"
api_base = "{base_url}"
"""


def main() -> None:
    os.environ.setdefault("OPENAI_API_KEY", "sk-upstream")
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as config:
        config.write(CONFIG.format(base_url=sys.argv[1]))
        config.flush()
        client = patch_openai_client(
            OpenAI(api_key="unused"), config_file=config.name, async_setup=False
        )
        Path(sys.argv[2]).write_text(str(urlsplit(str(client.base_url)).port))
        time.sleep(3600)


if __name__ == "__main__":
    main()
