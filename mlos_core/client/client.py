# SPDX-License-Identifier: BUSL-1.1
"""The connection: `connect()` and the client it returns."""

from __future__ import annotations

import contextlib
import os
import threading
from typing import Any, Self

from mlos_core import config
from mlos_core.client.link import CLIENT_POLL_MAX_US
from mlos_core.client.model import Model
from mlos_core.client.session import Session
from mlos_core.client.settings import DEFAULT_ARENA, DEFAULT_SLOTS, DEFAULT_TIMEOUT, Settings
from mlos_core.errors import Closed, InvalidInput


def connect(socket: str | os.PathLike[str] | None = None, timeout: float = 10.0) -> Client:
    """Connect to the daemon.

    Args:
        socket: its control socket; by default where `mlosd` puts it (`MLOS_SOCKET`).
        timeout: seconds for connecting and for answers of the control plane.

    Raises:
        Unavailable: no daemon answers there.
    """
    return Client(os.fspath(socket) if socket else str(config.default_socket()), timeout)


class Client:
    """A connection to the daemon. Thread-safe; a forked child gets its own connection."""

    def __init__(self, path: str, timeout: float = 10.0) -> None:
        self._path = path
        self._timeout = timeout
        self._pid = os.getpid()
        self._session: Session | None = Session(path, timeout)
        self._models: list[Model] = []
        self._lock = threading.Lock()

    def session(self) -> Session:
        """The control connection of this process."""
        if self._pid != os.getpid():
            self._after_fork()
        if self._session is None:
            raise Closed("the client was closed")
        return self._session

    def _after_fork(self) -> None:
        inherited, self._session = self._session, None
        self._lock = threading.Lock()
        self._pid = os.getpid()
        if inherited is not None:
            inherited.disown()
            self._session = Session(self._path, self._timeout)

    def model(
        self,
        name: str,
        *,
        version: str = "",
        slots: int = DEFAULT_SLOTS,
        request_bytes: int = DEFAULT_ARENA,
        reply_bytes: int = DEFAULT_ARENA,
        wait_mode: str = "adaptive",
        poll_max_us: int = CLIENT_POLL_MAX_US,
        timeout: float = DEFAULT_TIMEOUT,
    ) -> Model:
        """A handle on a model. It attaches at its first use.

        A handle owns a channel, and with it shared memory: keep one and share it between
        threads, rather than make one per request.

        Args:
            name: as it was registered; `name@version` is another way to give a version.
            version: the one to ask; without it the handle follows the model's route, also
                when that changes.
            slots: requests that can be under way or held at a time.
            request_bytes: size of the arena for request tensors. It grows when a request
                needs more, by attaching anew; give it to spare that moment.
            reply_bytes: size of the arena for reply tensors; `infer` makes it grow, by
                asking a second time.
            wait_mode: `adaptive`, `spin` or `block`.
            poll_max_us: longest adaptive polling, in microseconds.
            timeout: default deadline of each request, in seconds; attaching, which waits
                while the model is being loaded, may take as long.
        """
        if wait_mode not in ("adaptive", "spin", "block"):
            raise InvalidInput(
                f"unknown wait mode {wait_mode!r}", hint="use adaptive, spin or block"
            )
        settings = Settings(
            slots, request_bytes, reply_bytes, wait_mode, poll_max_us, timeout, version
        )
        model = Model(self, name, settings)
        with self._lock:
            self._models.append(model)
        return model

    def forget(self, model: Model) -> None:
        """A handle was closed; it calls this itself."""
        with contextlib.suppress(ValueError):  # made by hand, or forgotten before
            self._models.remove(model)

    def call(self, method: str, *, patience: float | None = 120.0, **params: Any) -> Any:
        """Call a method of the daemon's service (`register`, `models`, `status`, …).

        Args:
            method: its name.
            patience: seconds to wait for the answer; `None` waits as long as it takes.
            params: the method's parameters, `timeout` among them where it has one.
        """
        return self.session().call(method, params, patience)

    def close(self) -> None:
        """Give up every channel and the connection."""
        for model in list(self._models):
            model.close()
        if self._session is not None and self._pid == os.getpid():
            self._session.close()
        self._session = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
