# SPDX-License-Identifier: BUSL-1.1
"""Connections to one SQLite file, shared by the threads of one process.

Guarantees: readers see one state from the beginning of their block to its end and never wait
for a writer; a writing block happens as a whole or not at all, also across `kill -9`; waiting
has a deadline. Other processes may use the file at the same time.
"""

from __future__ import annotations

import math
import queue
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from axon_client.registry.schema import APPLICATION_ID, MIGRATIONS
from axon_client.registry.writer import full
from mlos_core.errors import ConfigError, DeadlineExceeded, MlosError, Overloaded, Unavailable

BUSY_TIMEOUT_S: Final = 10.0
SYNCHRONOUS = "FULL"
"""What was answered is on disk, even if the power fails. Tests do without."""
_IDLE: Final = 16
_RETRY_S: Final = 0.02
_STEPS: Final = 1000
"""Instructions of SQLite's machine between two looks at the clock."""


class Connections:
    """A pool of connections; opening it brings the file's tables up to date.

    Raises:
        ConfigError: the file is not a registry's, or one of a newer version.
    """

    def __init__(self, path: Path, busy_timeout_s: float = BUSY_TIMEOUT_S) -> None:
        self._path = path
        self._timeout_s = busy_timeout_s
        self._idle: queue.LifoQueue[sqlite3.Connection] = queue.LifoQueue(_IDLE)
        self._writing = threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(0o600)  # SQLite gives its other files the same rights
        try:
            with self.write() as connection:
                _migrate(connection)
        except BaseException:
            self.close()
            raise

    @contextmanager
    def read(self, most_s: float = math.inf) -> Iterator[sqlite3.Connection]:
        """A block that reads one state of the database.

        Raises:
            DeadlineExceeded: its questions took more than `most_s` seconds.
        """
        end = time.monotonic() + most_s
        with self._borrowed() as connection:
            connection.set_progress_handler(lambda: time.monotonic() > end, _STEPS)
            connection.execute("BEGIN")
            try:
                yield connection
            finally:
                connection.set_progress_handler(None, 0)
                connection.execute("ROLLBACK")

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """A block whose changes happen together at its end, or not at all if it raises.

        Raises:
            Overloaded: another writer was not done in time.
        """
        if not self._writing.acquire(timeout=self._timeout_s):
            raise _busy()
        try:
            with self._borrowed() as connection:
                connection.execute("BEGIN IMMEDIATE")
                try:
                    yield connection
                    connection.execute("COMMIT")
                finally:
                    if connection.in_transaction:
                        connection.execute("ROLLBACK")
        finally:
            self._writing.release()

    @contextmanager
    def _borrowed(self) -> Iterator[sqlite3.Connection]:
        try:
            connection = self._idle.get_nowait()
        except queue.Empty:
            connection = self._open()
        try:
            yield connection
        except sqlite3.Error as error:
            raise _explained(error, self._path) from error
        finally:
            self._give_back(connection)

    def _open(self) -> sqlite3.Connection:
        try:
            connection = sqlite3.connect(
                self._path, self._timeout_s, isolation_level=None, check_same_thread=False
            )
            with ExitStack() as failed:
                failed.callback(connection.close)
                _check(connection, self._path)  # before it is changed: it may be another's
                _prepare(connection, self._timeout_s)
                failed.pop_all()
        except sqlite3.Error as error:
            raise _explained(error, self._path) from error
        return connection

    def _give_back(self, connection: sqlite3.Connection) -> None:
        if connection.in_transaction:  # its ROLLBACK failed: nobody may go on with it
            connection.close()
            return
        try:
            self._idle.put_nowait(connection)
        except queue.Full:
            connection.close()

    def close(self) -> None:
        """Close every connection that nobody uses."""
        while True:
            try:
                self._idle.get_nowait().close()
            except queue.Empty:
                return


def _check(connection: sqlite3.Connection, path: Path) -> None:
    connection.execute("BEGIN")  # another process may be making the tables
    application, done = (
        connection.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("application_id", "user_version")
    )
    tables = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
    connection.execute("ROLLBACK")
    if application != APPLICATION_ID and (application or done or tables):
        raise ConfigError(f"{path} is not a registry's database", hint="choose another folder")
    if done > len(MIGRATIONS):
        raise ConfigError(f"{path} was made by a newer axon", hint="update axon")


def _prepare(connection: sqlite3.Connection, timeout_s: float) -> None:
    connection.row_factory = sqlite3.Row
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            break
        except sqlite3.OperationalError:
            # SQLite does not wait here, if others open a new file at the same time.
            if time.monotonic() >= deadline:
                raise
            time.sleep(_RETRY_S)
    connection.execute(f"PRAGMA synchronous = {SYNCHRONOUS}")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA trusted_schema = OFF")


def _migrate(connection: sqlite3.Connection) -> None:
    done: int = connection.execute("PRAGMA user_version").fetchone()[0]
    if done == len(MIGRATIONS):
        return
    for step in MIGRATIONS[done:]:
        for statement in step:
            connection.execute(statement)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")


def _busy() -> Overloaded:
    return Overloaded("the registry's database is busy", hint="try again later")


def _explained(error: sqlite3.Error, path: Path) -> MlosError:
    if "locked" in str(error) or "busy" in str(error):
        return _busy()
    if "interrupted" in str(error):
        return DeadlineExceeded("this takes the registry too long", hint="ask for less")
    if "full" in str(error):
        return full()
    if "not a database" in str(error):
        return ConfigError(f"{path} is not a registry's database", hint="choose another folder")
    return Unavailable(
        f"the registry's database fails: {error}", hint=f"check the disk that holds {path}"
    )
