# SPDX-License-Identifier: BUSL-1.1
import os

import pytest

from mlos_core.daemon.files import Lock, write_atomic
from mlos_core.errors import AlreadyExists, MlosError


def test_a_second_daemon_is_told_the_pid_of_the_first(tmp_path):
    first, second = Lock(tmp_path / "lock"), Lock(tmp_path / "lock")
    first.acquire()
    with pytest.raises(AlreadyExists, match=f"pid {os.getpid()}"):
        second.acquire()
    first.release()
    second.acquire()
    second.release()


def test_a_lock_may_be_let_go_twice(tmp_path):
    lock = Lock(tmp_path / "lock")
    lock.acquire()
    lock.release()
    lock.release()


def test_a_file_is_replaced_as_a_whole(tmp_path):
    path = tmp_path / "file"
    write_atomic(path, b"one")
    write_atomic(path, b"two", durable=False)
    assert path.read_bytes() == b"two"
    assert path.stat().st_mode & 0o777 == 0o600
    assert len(list(tmp_path.iterdir())) == 1


def test_a_folder_that_is_gone_is_a_clear_error(tmp_path):
    with pytest.raises(MlosError, match="cannot be written"):
        write_atomic(tmp_path / "gone" / "file", b"")
