# SPDX-License-Identifier: BUSL-1.1
"""Downloads from a server on real sockets: cuts, kills, changes, mirrors."""

import errno
import hashlib
import os
import random
import subprocess
import sys
import threading

import msgspec
import pytest
from web import Reply, Web

from axon_client import net
from axon_client.adapters.base import RemoteFile
from axon_client.errors import IntegrityError
from axon_client.net.attempt import TASK
from axon_client.progress import silent
from mlos_core.errors import ConfigError, MlosError, NotFound, OutOfMemory, Unavailable

PART = 16 << 10
DATA = random.Random(5).randbytes(1_000_003)


class Hasty(net.Clock):
    """Waits for nothing, and remembers for how long it should have."""

    def __init__(self):
        self.slept = []

    def sleep(self, seconds, stop=None):
        self.slept.append(seconds)


@pytest.fixture(autouse=True)
def _empty_home(home):
    """No token and no setting of whoever runs the tests."""


@pytest.fixture
def web():
    with Web({"/f": DATA}) as web:
        yield web


@pytest.fixture
def options():
    return net.Options(part_bytes=PART, clock=Hasty(), stall_s=5)


def remote(web, data=DATA, digest=True, paths=("/f",), **fields):
    urls = tuple(web.url(path) for path in paths)
    sha256 = hashlib.sha256(data).hexdigest() if digest else ""
    return RemoteFile("f.onnx", urls, len(data) if digest else -1, sha256, **fields)


def fetch(tmp_path, file, options, progress=silent):
    return net.download(tmp_path / "target", file, progress, options)


def is_whole(tmp_path, data=DATA):
    names = [path.name for path in tmp_path.iterdir()]
    return "target.state" not in names and (tmp_path / "target").read_bytes() == data


@pytest.mark.parametrize("digest", [True, False])
def test_a_file_comes_in_parallel_ranges(web, tmp_path, options, digest):
    seen = []
    done = fetch(tmp_path, remote(web, digest=digest), options, lambda *step: seen.append(step))
    assert done == net.Downloaded(len(DATA), hashlib.sha256(DATA).hexdigest())
    assert is_whole(tmp_path)
    assert len(web.ranges_of("/f")) > 4
    assert web.sent == len(DATA)
    assert seen[-1] == (TASK, len(DATA), len(DATA))


@pytest.mark.parametrize("data", [b"", b"x", bytes(PART), bytes(4 * PART), bytes(4 * PART + 1)])
@pytest.mark.parametrize("digest", [True, False])
@pytest.mark.parametrize("ranges", [True, False])
def test_files_of_every_size_arrive_whole(tmp_path, options, data, digest, ranges):
    with Web({"/f": data}, ranges=ranges) as web:
        assert fetch(tmp_path, remote(web, data, digest), options).size == len(data)
    assert is_whole(tmp_path, data)


def test_a_small_file_costs_one_request(tmp_path, options):
    with Web({"/f": DATA[:PART]}) as web:
        fetch(tmp_path, remote(web, DATA[:PART]), options)
        assert len(web.log) == 1


@pytest.mark.parametrize("digest", [True, False])
def test_a_download_that_is_cut_at_two_hundred_random_bytes_ends_right(
    web, tmp_path, options, digest
):
    rng, cuts, lock = random.Random(3), [], threading.Lock()

    def behave(request, reply):
        with lock:
            if len(cuts) < 200 and len(reply.body) > 1:
                reply.cut = rng.randrange(1, min(len(reply.body), 5000))
                cuts.append(reply.cut)

    web.behave = behave
    options = msgspec.structs.replace(options, attempts=1000)
    assert fetch(tmp_path, remote(web, digest=digest), options).size == len(DATA)
    assert is_whole(tmp_path)
    assert len(cuts) == 200


PROGRAM = """
import sys
from pathlib import Path
from axon_client import net
from axon_client.adapters.base import RemoteFile
url, size, sha256, target, part = sys.argv[1:]
file = RemoteFile("f", (url,), int(size), sha256)
net.download(Path(target), file, print, net.Options(part_bytes=int(part), parallel=2))
"""


def kill_at(web, tmp_path, file, position):
    """A process that downloads, and is killed when `position` more bytes have been sent."""
    reached, gone, base = threading.Event(), threading.Event(), web.sent

    def behave(request, reply):
        room = position - (web.sent - base)
        if room < len(reply.body):
            reached.set()
            reply.body = reply.body[: max(room, 1)]
            return Reply(reply.status, reply.headers, reply.body, close=True, drip=gone)
        return None

    web.behave = behave
    arguments = (file.urls[0], str(file.size), file.sha256, str(tmp_path / "target"), str(PART))
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", PROGRAM, *arguments], stdout=subprocess.DEVNULL
    )
    try:
        assert reached.wait(20)
    finally:
        process.kill()
        process.wait(20)
        gone.set()
        web.behave = None


def noted_parts(tmp_path):
    lines = (tmp_path / "target.state").read_bytes().splitlines()[1:]
    return {msgspec.json.decode(line)["part"] for line in lines}


def parts_of(ranges):
    return {p for first, last in ranges for p in range(first // PART, last // PART + 1)}


def test_a_killed_process_leaves_what_the_next_one_goes_on_with(web, tmp_path, options):
    rng, file = random.Random(11), remote(web)
    for _ in range(4):
        kill_at(web, tmp_path, file, rng.randrange(PART, len(DATA) // 4))
        kept, before = noted_parts(tmp_path), len(web.log)
    assert kept
    fetch(tmp_path, file, options)
    assert is_whole(tmp_path)
    assert not kept & parts_of(web.ranges_of("/f")[before:])


def leave(web, tmp_path, options, file, most=10):
    """What is there after a download that was given up."""
    count, lock = [0], threading.Lock()

    def behave(request, reply):
        with lock:
            count[0] += 1
            return Reply(404, {}) if count[0] > most else None

    web.behave = behave
    with pytest.raises(NotFound):
        fetch(tmp_path, file, options)
    web.behave = None
    kept = noted_parts(tmp_path)
    assert kept
    web.log.clear()
    return kept


@pytest.mark.parametrize("digest", [True, False])
def test_verified_parts_are_not_fetched_again(web, tmp_path, options, digest):
    file = remote(web, digest=digest)
    kept = leave(web, tmp_path, options, file)
    fetch(tmp_path, file, options)
    assert is_whole(tmp_path)
    ranges = web.ranges_of("/f")[0 if digest else 1 :]  # the first asks whether it has changed
    assert not kept & parts_of(ranges)


def test_a_part_that_was_damaged_meanwhile_is_fetched_again_and_no_other(web, tmp_path, options):
    file = remote(web)
    kept = leave(web, tmp_path, options, file)
    spoilt = min(kept)
    with (tmp_path / "target").open("r+b") as partial:
        partial.seek(spoilt * PART + 5)
        partial.write(bytes(10))
    fetch(tmp_path, file, options)
    assert is_whole(tmp_path)
    assert kept & parts_of(web.ranges_of("/f")) == {spoilt}


@pytest.mark.parametrize("size", [0, 5, 10 * len(DATA)])
def test_a_partial_file_of_another_size_is_healed(web, tmp_path, options, size):
    file = remote(web)
    leave(web, tmp_path, options, file)
    with (tmp_path / "target").open("r+b") as partial:
        partial.truncate(size)
    fetch(tmp_path, file, options)
    assert is_whole(tmp_path)


def test_what_is_complete_needs_no_network(web, tmp_path, options):
    file = remote(web)
    leave(web, tmp_path, options, file)
    (tmp_path / "target").write_bytes(DATA)
    with (tmp_path / "target.state").open("ab") as notes:
        for number in range(len(DATA) // PART + 1):
            digest = hashlib.sha256(DATA[number * PART : (number + 1) * PART]).hexdigest()
            notes.write(msgspec.json.encode({"part": number, "sha256": digest}) + b"\n")
    fetch(tmp_path, file, options)
    assert web.log == []


def test_a_file_that_changed_is_fetched_anew(web, tmp_path, options):
    file = remote(web, digest=False)
    leave(web, tmp_path, options, file)
    web.files["/f"] = other = DATA[::-1]
    assert fetch(tmp_path, file, options).sha256 == hashlib.sha256(other).hexdigest()


def test_a_file_that_changes_under_way_is_never_mixed(web, tmp_path, options):
    other, eighth = DATA[::-1], iter(range(8))

    def behave(request, reply):
        if next(eighth, None) is None:
            web.files["/f"] = other

    web.behave = behave
    assert fetch(tmp_path, remote(web, digest=False), options).size == len(DATA)
    assert is_whole(tmp_path, other)


def test_a_wrong_file_that_was_put_right_is_fetched_anew(web, tmp_path, options):
    web.files["/f"] = b"?" * len(DATA)
    leave(web, tmp_path, options, remote(web))
    web.files["/f"] = DATA
    fetch(tmp_path, remote(web), options)
    assert is_whole(tmp_path)


def test_without_ranges_and_names_of_states_a_cut_file_starts_anew(tmp_path, options):
    cuts = iter([1000, 500_000])
    with Web({"/f": DATA}, ranges=False, etags=False) as web:

        def behave(request, reply):
            reply.cut = next(cuts, None)

        web.behave = behave
        fetch(tmp_path, remote(web, digest=False), options)
    assert is_whole(tmp_path)


def test_without_ranges_a_file_with_a_digest_goes_on_behind_what_came(tmp_path, options):
    cuts = iter([200_001, 500_000])
    with Web({"/f": DATA}, ranges=False) as web:

        def behave(request, reply):
            reply.cut = next(cuts, None)

        web.behave = behave
        fetch(tmp_path, remote(web), options)
        assert len(web.log) == 3
    assert is_whole(tmp_path)


def test_a_server_that_restarts_is_waited_for(web, tmp_path, options):
    going = threading.Thread(target=web.stop)

    class Restarts(Hasty):
        def sleep(self, seconds, stop=None):
            if not self.slept:
                going.join(30)  # its port is free only then
                web.restart()
            super().sleep(seconds, stop)

    def behave(request, reply):
        if len(web.log) == 3:
            web.behave = None
            going.start()
            return Reply(206, reply.headers, reply.body, cut=100)
        return None

    web.behave = behave
    options = msgspec.structs.replace(options, clock=Restarts(), parallel=1)
    fetch(tmp_path, remote(web), options)
    assert is_whole(tmp_path)


def test_one_connection_suffices_where_a_server_refuses_more(web, tmp_path, options):
    busy = threading.Lock()

    def behave(request, reply):
        if not busy.acquire(blocking=False):
            return Reply(503, {"Retry-After": "1"})
        try:
            return reply
        finally:
            busy.release()

    web.behave = behave
    fetch(tmp_path, remote(web), options)
    assert is_whole(tmp_path)


def test_a_server_says_how_long_to_wait(web, tmp_path, options):
    replies = iter([Reply(503, {"Retry-After": "17"}), Reply(429, {})])
    web.behave = lambda request, reply: next(replies, None)
    fetch(tmp_path, remote(web), options)
    assert options.clock.slept[0] == 17
    assert 0.4 < options.clock.slept[1] < 1.1


# --- mirrors --------------------------------------------------------------------------


def test_a_mirror_takes_over_from_a_source_that_is_gone(web, tmp_path, options):
    fetch(tmp_path, remote(web, paths=("/gone", "/f")), options)
    assert is_whole(tmp_path)


def test_configured_mirrors_are_tried_behind_the_source(web, tmp_path, options):
    mirrors = {web.url("/far/"): [web.url("/")]}
    options = msgspec.structs.replace(options, mirrors=mirrors)
    fetch(tmp_path, remote(web, paths=("/far/f",)), options)
    assert is_whole(tmp_path)


def test_a_mirror_with_another_file_does_not_spoil_it(web, tmp_path, options):
    web.files["/bad"] = DATA[:-1] + b"?"
    fetch(tmp_path, remote(web, paths=("/bad", "/f")), options)
    assert is_whole(tmp_path)


def test_a_mixture_of_a_right_and_a_wrong_source_ends_right(web, tmp_path, options):
    """The first source breaks off for good; what it gave was wrong."""
    web.files["/bad"] = b"?" * len(DATA)

    def behave(request, reply):
        if request.path == "/bad" and len(web.ranges_of("/bad")) > 3:
            return Reply(404, {})
        return None

    web.behave = behave
    fetch(tmp_path, remote(web, paths=("/bad", "/f")), options)
    assert is_whole(tmp_path)


def test_without_a_digest_sources_are_not_mixed(web, tmp_path, options):
    web.files["/other"] = DATA[::-1]

    def behave(request, reply):
        if request.path == "/f" and len(web.ranges_of("/f")) > 3:
            return Reply(404, {})
        return None

    web.behave = behave
    fetch(tmp_path, remote(web, paths=("/f", "/other"), digest=False), options)
    assert is_whole(tmp_path, DATA[::-1])


# --- digests --------------------------------------------------------------------------


def test_a_wrong_digest_is_refused_and_leaves_nothing(web, tmp_path, options):
    web.files["/f"] = DATA[:-1] + b"?"
    with pytest.raises(IntegrityError, match="was promised") as caught:
        fetch(tmp_path, remote(web), options)
    assert f"127.0.0.1:{web.port}" in caught.value.message
    assert list(tmp_path.glob("target*")) == []
    assert web.sent == len(DATA)


def test_gits_name_of_a_file_is_checked_where_there_is_no_sha256(web, tmp_path, options):
    name = hashlib.sha1(b"blob %d\0" % len(DATA) + DATA).hexdigest()
    fetch(tmp_path, RemoteFile("f", (web.url("/f"),), len(DATA), git_sha1=name), options)
    assert is_whole(tmp_path)
    (tmp_path / "target").unlink()
    with pytest.raises(IntegrityError, match="git hash"):
        fetch(tmp_path, RemoteFile("f", (web.url("/f"),), git_sha1="0" * 40), options)


def test_offline_refuses_and_names_who_would_be_asked(web, tmp_path, options):
    options = msgspec.structs.replace(options, offline=True)
    with pytest.raises(ConfigError, match="offline"):
        fetch(tmp_path, remote(web), options)
    assert web.log == []


def test_a_file_larger_than_the_disk_is_refused_before_a_byte_comes(web, tmp_path, options):
    web.behave = lambda request, reply: Reply(
        206, {"Content-Range": "bytes 0-65535/4000000000000"}, bytes(65536)
    )
    with pytest.raises(OutOfMemory, match="free"):
        fetch(tmp_path, remote(web, digest=False), options)


def test_a_full_disk_ends_the_download_and_is_no_fault_of_the_source(
    web, tmp_path, options, monkeypatch
):
    def full(file, data, offset):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", full)
        with pytest.raises(OSError, match="No space"):
            fetch(tmp_path, remote(web), options)
    fetch(tmp_path, remote(web), options)
    assert is_whole(tmp_path)


def test_the_rate_is_limited_over_all_connections(web, tmp_path, options):
    clock = Hasty()
    clock.now = lambda: 0.0
    options = msgspec.structs.replace(options, rate_limit=1_000_000, clock=clock)
    fetch(tmp_path, remote(web), options)
    assert is_whole(tmp_path)
    assert max(clock.slept) == pytest.approx(len(DATA) / 1e6)


def test_an_interrupted_download_ends_its_connections(web, tmp_path, options):
    held = threading.Event()
    web.behave = lambda request, reply: Reply(206, reply.headers, reply.body, close=True, drip=held)

    def interrupt(*step):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(tmp_path, remote(web), options, interrupt)
    held.set()
    assert not [t for t in threading.enumerate() if t.name.startswith("download-")]


def test_two_downloads_of_one_file_do_not_share_a_target(web, tmp_path, options):
    errors, held = [], threading.Event()

    def behave(request, reply):
        try:
            fetch(tmp_path, remote(web), options)
        except MlosError as error:
            errors.append(error)
        web.behave = None
        held.set()

    web.behave = behave
    fetch(tmp_path, remote(web), options)
    assert held.wait(10)
    assert isinstance(errors[0], Unavailable)
    assert is_whole(tmp_path)
