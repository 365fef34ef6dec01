# SPDX-License-Identifier: BUSL-1.1
"""A worker that is killed costs its successor a start, and nobody an answer."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Final

from mlos_core.conformance import comparing
from mlos_core.conformance.outcome import Failed
from mlos_core.conformance.subject import Subject

_AFTER: Final = 5


def a_killed_worker_is_replaced_and_no_answer_is_lost(subject: Subject) -> None:
    """SIGKILL in the midst of a client's requests."""
    want = subject.ask(subject.inputs)
    with subject.serving() as (name, model), ThreadPoolExecutor(1) as pool:
        begun, killed = Event(), Event()

        def client() -> str:
            left = _AFTER
            while left:
                if wrong := comparing.difference(subject.ask(subject.inputs, model), want):
                    return wrong
                begun.set()
                left -= killed.is_set()
            return ""

        asking = pool.submit(client)
        try:
            if begun.wait(subject.target.timeout):
                subject.kill(name)
        finally:
            killed.set()
        if wrong := asking.result():
            raise Failed(wrong)
        restarts = subject.client.call("model", name=name)["restarts"]
    if not restarts:
        raise Failed("no worker was restarted")
