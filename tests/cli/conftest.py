# SPDX-License-Identifier: BUSL-1.1
"""A model that chats, without a language model behind it."""

import pytest

TALKER = '''
import msgspec
import numpy as np
from mlos_core.errors import InvalidInput
from mlos_core.smi import EngineModel, Event, Plugin
from mlos_core.types import Signature, TensorSpec


class Talker(EngineModel):
    """Says what it was asked, word by word; "for ever" never ends, "fail" is refused."""

    signature = Signature(
        (TensorSpec("messages", "bytes", (1,), optional=True),),
        (TensorSpec("text", "bytes", (-1,), optional=True),),
        streaming=True,
        tasks=("generate", "chat"),
    )

    def __init__(self, log):
        self.log, self.running = log, {}

    def submit(self, request):
        messages = msgspec.json.decode(request.inputs["messages"].item(0))
        self.note({"messages": messages, "parameters": request.parameters})
        said = messages[-1]["content"]
        if said == "fail":
            raise InvalidInput("the prompt is too long", hint="say less")
        if said == "break":
            words = ["half", InvalidInput("it broke")]
        else:
            words = [f"{len(messages)}:", *said.split(" ")]
        self.running[request.id] = [words, 0, said == "for ever"]

    def note(self, what):
        with open(self.log, "ab") as log:
            log.write(msgspec.json.encode(what) + b"\\n")

    def cancel(self, id):
        if self.running.pop(id, None):
            self.note("cancelled")

    def step(self):
        return [event for id in list(self.running) for event in self.advance(id)]

    def advance(self, id):
        words, at, endless = self.running[id]
        if at == len(words):
            if endless:
                return
            del self.running[id]
            yield Event(id, {"i": 0, "f": "stop", "r": None})
            text = np.array([" ".join(words).encode()], dtype=object)
            yield Event(id, final=True, outputs={"text": text})
            return
        self.running[id][1] += 1
        if isinstance(words[at], Exception):
            del self.running[id]
            yield Event(id, final=True, error=words[at])
            return
        piece = {"i": 0, "t": [at], "s": words[at] + " " * (at < len(words) - 1)}
        yield Event(id, piece if at else {"p": 7, "c": 2, **piece})


class TalkerPlugin(Plugin):
    name = "talker"
    formats = (".talker",)

    def load(self, package, device, options):
        return Talker(str(package.path) + ".log")
'''


class Talker:
    """The model's file, and what the model noted."""

    def __init__(self, path):
        self.path = path
        self._log = path.with_name(path.name + ".log")

    def noted(self):
        import msgspec

        lines = self._log.read_bytes().splitlines() if self._log.exists() else []
        return [msgspec.json.decode(line) for line in lines]


@pytest.fixture
def talker(plugin_path, tmp_path):
    """A model of a plugin that only the daemons of this test find."""
    (plugin_path / "talker_module.py").write_text(TALKER)
    meta = plugin_path / "talker-1.0.dist-info"
    meta.mkdir()
    (meta / "METADATA").write_text("Metadata-Version: 2.1\nName: talker\nVersion: 1.0\n")
    (meta / "entry_points.txt").write_text("[mlos.plugins]\ntalker = talker_module:TalkerPlugin\n")
    path = tmp_path / "model.talker"
    path.touch()
    return Talker(path)
