"""scrubadub as documented: one Scrubber, `clean` for every text. Runs in .venv-peers.

Reads {"texts": [...]} from stdin, prints {"seconds": CPU, "texts": [...]}.
"""

from __future__ import annotations

import json
import sys
import time
import warnings

warnings.simplefilter("ignore")

import scrubadub  # noqa: E402

texts = json.load(sys.stdin)["texts"]
scrubber = scrubadub.Scrubber(locale="en_US")
scrubber.clean("warm up: ann@mail.example")
began = time.process_time()
cleaned = [scrubber.clean(text) for text in texts]
seconds = time.process_time() - began
json.dump({"seconds": seconds, "texts": cleaned}, sys.stdout)
