"""What the tests of local/ share: free ports and a fake model server."""

from __future__ import annotations

import json
import random
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.http import Handler, Server

AWS = Callable[[str], Any]


def free_ports() -> int:
    """The first of three consecutive free ports, of those that no outgoing connection takes."""
    every = range(20000, 32000, 3)
    for port in random.sample(every, len(every)):  # another process may be looking as well
        probes = [socket.socket() for _ in range(3)]
        try:
            for offset, probe in enumerate(probes):
                probe.bind(("127.0.0.1", port + offset))
        except OSError:
            continue
        else:
            return port
        finally:
            for probe in probes:
                probe.close()
    raise AssertionError("no three free ports")


class FakeModelServer(Server):
    """Knows a base model and the adapters that were loaded; answers with the model's name."""

    def __init__(self, port: int) -> None:
        super().__init__(FakeModelHandler, port)
        self.adapters: dict[str, str] = {}
        self.start()


class FakeModelHandler(Handler):
    server: FakeModelServer

    def do_POST(self) -> None:
        request = json.loads(self.read())
        if self.path == "/v1/load_lora_adapter":
            if not (Path(request["lora_path"]) / "adapter_config.json").exists():
                return self.reply(400, {"error": {"message": "no adapter there"}})
            self.server.adapters[request["lora_name"]] = request["lora_path"]
            return self.reply(200, {"status": "loaded"})
        if self.path == "/v1/unload_lora_adapter":
            self.server.adapters.pop(request["lora_name"], None)
            return self.reply(200, {"status": "unloaded"})
        if request["model"] not in {*self.server.adapters, "smollm2-135m-instruct"}:
            return self.reply(404, {"error": {"message": "no such model"}})
        if not request.get("messages"):
            return self.reply(400, {"error": {"message": "messages are missing"}})
        said = {"role": "assistant", "content": f"I am {request['model']}"}
        return self.reply(200, {"model": request["model"], "choices": [{"message": said}]})
