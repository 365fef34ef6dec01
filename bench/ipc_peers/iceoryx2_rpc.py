# SPDX-License-Identifier: BUSL-1.1
"""iceoryx2's Python bindings: request-response, polled or with an event on either side.

Of the variants its API offers (fixed-size struct or slice as the request, `send_copy` or a
loan, explicit `delete` or none) a 64-byte aligned slice with loans in both directions was
the fastest from 64 B to 16 MiB; addresses are read with ctypes, which is quicker than the
typed `payload()`.
"""

from __future__ import annotations

import contextlib
import ctypes
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import iceoryx2 as iox

from ipc_peers.peer import Bytes, Peer

WAIT = iox.Duration.from_millis(200)
"""How long a blocked side sleeps before it looks up; a signal then gets its turn."""


class Number(ctypes.Structure):
    """The reply."""

    _fields_: ClassVar[list[tuple[str, Any]]] = [("value", ctypes.c_double)]


number_at = ctypes.c_double.from_address


class Poll(Peer):
    """Both sides poll."""

    def open(self) -> None:
        iox.set_log_level(iox.LogLevel.Error)
        config = iox.config.default()
        folder = str(self.setting.folder)
        self.prefix = f"bench_{zlib.crc32(folder.encode()):08x}_"
        config.global_cfg.root_path = iox.Path.new(folder)
        config.global_cfg.prefix = iox.FileName.new(self.prefix)
        # Python keeps its own signal handlers.
        builder = iox.NodeBuilder.new().config(config)
        builder = builder.signal_handling_mode(iox.SignalHandlingMode.Disabled)
        self.node = builder.create(iox.ServiceType.Ipc)
        self.service = (
            self.node.service_builder(iox.ServiceName.new("number"))
            .request_response(iox.Slice[ctypes.c_uint8], Number)
            .request_payload_alignment(iox.Alignment.new(64))
            .open_or_create()
        )

    def event(self, name: str) -> Any:
        return self.node.service_builder(iox.ServiceName.new(name)).event().open_or_create()

    def serve(self, ready: Callable[[], None]) -> None:
        self.open()
        receive = self.service.server_builder().create().receive
        ready()
        while True:
            request = receive()
            if request is not None:
                reply = request.loan_uninit()
                number_at(reply.payload_ptr).value = number_at(request.payload_ptr).value
                reply.assume_init().send()

    def connect(self) -> None:
        self.open()
        builder = self.service.client_builder().initial_max_slice_len(self.setting.nbytes)
        self.client = builder.create()

    def sender(self, payload: Bytes) -> Callable[[], Any]:
        """A function that sends the payload and returns the pending response.

        In place, the loan is taken as if the data had been produced in it: only the eight
        bytes that change are written.
        """
        loan, size = self.client.loan_slice_uninit, payload.nbytes
        source = memoryview(payload)[: 8 if self.setting.in_place else size]
        # Assigning `raw` is a memcpy from any buffer, and much cheaper than ctypes.memmove.
        target_at = (ctypes.c_char * source.nbytes).from_address

        def send() -> Any:
            request = loan(size)
            target_at(request.payload_ptr).raw = source
            return request.assume_init().send()

        return send

    def caller(self, payload: Bytes) -> Callable[[], float]:
        send = self.sender(payload)

        def call() -> float:
            receive = send().receive
            while (response := receive()) is None:
                pass
            return number_at(response.payload_ptr).value

        return call

    def close(self) -> None:
        prefix = getattr(self, "prefix", None)
        for name in ("client", "service", "node"):
            self.__dict__.pop(name, None)
        # iceoryx2 keeps its node management segment beyond the last node.
        for left in Path("/dev/shm").glob(f"{prefix}*global_mgmt") if prefix else ():
            left.unlink(missing_ok=True)


class Block(Poll):
    """Both sides sleep on a listener that the other side notifies."""

    def serve(self, ready: Callable[[], None]) -> None:
        self.open()
        receive = self.service.server_builder().create().receive
        wait = self.event("requests").listener_builder().create().timed_wait
        notify = self.event("responses").notifier_builder().create().notify
        ready()
        while True:
            request = receive()
            if request is None:
                # A signal ends the wait with an error; Python then runs its handler.
                with contextlib.suppress(iox.ListenerWaitError):
                    wait(WAIT)
                continue
            reply = request.loan_uninit()
            number_at(reply.payload_ptr).value = number_at(request.payload_ptr).value
            reply.assume_init().send()
            notify()

    def caller(self, payload: Bytes) -> Callable[[], float]:
        send = self.sender(payload)
        wait = self.event("responses").listener_builder().create().timed_wait
        notify = self.event("requests").notifier_builder().create().notify

        def call() -> float:
            receive = send().receive
            notify()
            while (response := receive()) is None:
                wait(WAIT)
            return number_at(response.payload_ptr).value

        return call
