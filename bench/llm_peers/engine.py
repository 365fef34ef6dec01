# SPDX-License-Identifier: BUSL-1.1
"""One stream of Synapse's engine, called in this process and through shared memory: the
difference is what the client adds.

Both are the plugin's model with the same options and get the same request.
"""

from __future__ import annotations

from pathlib import Path
from time import perf_counter_ns
from typing import Any

from mlos_plugin_synapse import SynapsePlugin

from llm_peers.peer import Job, Peer, tokens
from mlos_core.client import connect
from mlos_core.smi import EngineRequest, ModelPackage

PROMPT_TOKENS = 16


def request(count: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Inputs and parameters of an answer of `count` tokens, always the same."""
    inputs = {"tokens": tokens(0, PROMPT_TOKENS)}
    return inputs, {"max_tokens": count, "ignore_eos": True, "temperature": 0.0}


class InProcess(Peer):
    """The engine, stepped here."""

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        options = {"threads": job.threads, **job.options}
        package = ModelPackage("llm", "", Path(job.model))
        self.engine: Any = SynapsePlugin().load(package, "cpu", options)
        self.asked = 0

    def time_answer(self, length: int) -> int:
        """From `submit` to the last event of `step`."""
        inputs, parameters = request(length)
        self.asked += 1
        begin = perf_counter_ns()
        self.engine.submit(EngineRequest(self.asked, inputs, parameters))
        while not any(event.final for event in self.engine.step()):
            pass
        return perf_counter_ns() - begin

    def close(self) -> None:
        """Free the engine."""
        self.engine.close()


class ThroughMemory(Peer):
    """The engine in a worker of a daemon at `options["socket"]`."""

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        self.client = connect(job.options["socket"])
        self.model = self.client.model(job.options["name"])

    def time_answer(self, length: int) -> int:
        """From `stream` to its end."""
        inputs, parameters = request(length)
        begin = perf_counter_ns()
        with self.model.stream(inputs, parameters=parameters) as events:
            for _ in events:
                pass
        return perf_counter_ns() - begin

    def close(self) -> None:
        """End the connection."""
        self.client.close()
