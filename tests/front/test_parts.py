# SPDX-License-Identifier: BUSL-1.1
"""The parts that decide, without a server."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import socket
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from mlos_core import errors
from mlos_core.daemon.plugins import PluginStatus
from mlos_core.daemon.reports import ModelInfo, VersionInfo, WorkerInfo
from mlos_core.front import codec, listen, npy, peer, problems, schema
from mlos_core.front.body import answer_type, decode_json
from mlos_core.front.handles import Handles, Target
from mlos_core.front.memory import keep_freed_memory
from mlos_core.types import BYTES, DTYPES, TensorSpec

shapes = arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)
numbers = st.sampled_from(sorted(DTYPES)).flatmap(lambda name: arrays.arrays(name, shapes))


def _spec(dtype: str) -> TensorSpec:
    return TensorSpec(name="x", dtype=dtype, shape=())


def _through_json(array):
    import msgspec

    return decode_json(msgspec.json.encode(codec.from_array(array)), object)


@given(numbers)
def test_every_tensor_survives_json(array):
    found = codec.to_array(_spec(array.dtype.name), _through_json(array))
    assert found.dtype == array.dtype
    assert found.size == array.size
    if array.size:
        assert np.array_equal(found, array, equal_nan=array.dtype.kind == "f")


@given(st.lists(st.binary(max_size=20), max_size=5))
def test_every_byte_string_survives_json(items):
    array = np.empty(len(items), dtype=object)
    array[:] = items
    found = codec.to_array(TensorSpec(name="x", dtype=BYTES, shape=(-1,)), _through_json(array))
    assert found.tolist() == items


@given(numbers)
def test_every_tensor_survives_a_file(array):
    found = npy.read_npy(npy.write_npy(array))
    assert (found.dtype, found.shape) == (array.dtype, array.shape)
    assert found.tobytes() == array.tobytes()
    assert np.load(io.BytesIO(npy.write_npy(array))).tobytes() == array.tobytes()


@given(st.dictionaries(st.sampled_from("abc"), numbers))
def test_every_set_of_tensors_survives_a_file(tensors):
    found = npy.read_npz(npy.write_npz(tensors), 1 << 20)
    assert found.keys() == tensors.keys()
    for name, array in tensors.items():
        assert found[name].tobytes() == array.tobytes()


@given(st.binary(max_size=300))
def test_no_bytes_are_taken_for_a_file_by_accident(data):
    for read in (npy.read_npy, lambda raw: npy.read_npz(raw, 1 << 20)):
        with pytest.raises(errors.InvalidInput):
            read(data)


@pytest.mark.parametrize("form", ["npy", "npz"])
@given(array=numbers, data=st.data())
def test_a_damaged_file_is_read_or_refused_but_never_worse(form, array, data):
    raw = bytearray(npy.write_npy(array) if form == "npy" else _compressed(array))
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(errors.InvalidInput):
        found = npy.read_npy(raw) if form == "npy" else npy.read_npz(bytes(raw), 1 << 20)
        assert found is not None


def _compressed(array) -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, x=array)
    return stream.getvalue()


@pytest.mark.parametrize("shape", [(0, 10**30), (1,) * 70, (-1,), (2**62, 4), ("1",)])
def test_an_impossible_shape_in_a_file_is_refused(shape):
    stream = io.BytesIO()
    header = {"descr": "<f4", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, header)
    with pytest.raises(errors.InvalidInput):
        npy.read_npy(stream.getvalue() + b"\0" * 64)


def test_strings_that_a_file_would_change_are_not_written():
    array = np.array([b"a\0", b"b"], dtype=object)
    with pytest.raises(errors.Unsupported, match="zero byte"):
        npy.write_npy(array)


@pytest.mark.parametrize("items", [[], [b""], [b"", b"abc"]])
def test_short_and_missing_strings_fit_a_file(items):
    array = np.empty(len(items), dtype=object)
    array[:] = items
    assert np.load(io.BytesIO(npy.write_npy(array))).tolist() == items


def test_one_long_string_does_not_blow_up_a_file():
    array = np.array([b"x" * (1 << 20), *([b""] * 300)], dtype=object)
    with pytest.raises(errors.Unsupported, match="differ too much"):
        npy.write_npy(array)


@given(st.text(alphabet="abc/*;,=q.01 +-", max_size=40))
def test_any_accept_header_is_chosen_from_or_refused(text):
    with contextlib.suppress(problems.NotAcceptable):
        assert "/" in answer_type(text)


# --- who is there -------------------------------------------------------------------------


def test_the_kernel_tells_whose_connection_it_is():
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as theirs,
        server.accept()[0] as ours,
    ):
        rows = Path("/proc/net/tcp").read_text().splitlines()
        assert peer.owner_of(ours.getpeername(), ours.getsockname(), rows) == os.getuid()
        assert peer.owner_of(theirs.getsockname(), ("127.0.0.1", 1), rows) is None
        peer.check_admin(ours)


ROW = (
    "   1: 0100007F:D431 0100007F:1F90 01 00000000:00000000 00:00000000 00000000  {uid}"
    "        0 12345 1 0 20 4 30 10 -1"
)
ROW6 = (
    "   1: 00000000000000000000000001000000:D431 00000000000000000000000001000000:1F90 01 "
    "00000000:00000000 00:00000000 00000000  {uid}        0 12345 1 0 20 4 30 10 -1"
)


class _Connection:
    family = socket.AF_INET

    def __init__(self, address: str) -> None:
        self.address = address

    def getpeername(self):
        return (self.address, 0xD431)

    def getsockname(self):
        return (self.address, 0x1F90)


@pytest.mark.parametrize(("address", "row"), [("127.0.0.1", ROW), ("::1", ROW6)])
def test_another_user_of_this_machine_may_not_change_models(monkeypatch, address, row):
    connection = _Connection(address)
    monkeypatch.setattr(peer, "_rows", lambda: [row.format(uid=os.getuid())])
    peer.check_admin(connection)
    monkeypatch.setattr(peer, "_rows", lambda: [row.format(uid=os.getuid() + 1)])
    with pytest.raises(errors.PermissionDenied):
        peer.check_admin(connection)
    monkeypatch.setattr(peer, "_rows", list)
    with pytest.raises(errors.PermissionDenied):
        peer.check_admin(connection)


def test_a_peer_from_elsewhere_was_let_in_by_the_operator():
    peer.check_admin(_Connection("192.0.2.7"))


# --- sockets ------------------------------------------------------------------------------


def test_a_socket_left_behind_is_replaced_and_a_used_one_is_not(tmp_path):
    path = tmp_path / "http.sock"
    listen.unix(path).close()  # leaves the file
    with listen.unix(path), pytest.raises(errors.AlreadyExists, match="another server"):
        listen.unix(path)


def test_a_file_is_not_mistaken_for_a_socket(tmp_path):
    path = tmp_path / "precious"
    path.write_text("data")
    with pytest.raises(errors.AlreadyExists, match="it is a file"):
        listen.unix(path)
    assert path.read_text() == "data"


@pytest.mark.parametrize("name", ["x" * 200, "no/such/folder/sock"])
def test_an_impossible_path_says_what_to_do(tmp_path, name):
    with pytest.raises(errors.ConfigError) as caught:
        listen.unix(tmp_path / name)
    assert "http_socket" in caught.value.hint


def test_a_taken_port_says_what_to_do():
    with (
        listen.tcp("127.0.0.1", 0) as first,
        pytest.raises(errors.ConfigError, match="cannot listen") as caught,
    ):
        listen.tcp("127.0.0.1", first.getsockname()[1])
    assert "http_port" in caught.value.hint


# --- handles ------------------------------------------------------------------------------


ECHO = Target("echo")


def handles_of(service):
    return Handles(lambda: service.client, 4, service.pick)


def test_requests_that_come_together_share_one_attach(service):
    async def run() -> None:
        handles = handles_of(service)
        await asyncio.gather(*(handles.signature(ECHO) for _ in range(5)))
        await handles.close()

    asyncio.run(run())
    assert len(service.attached) == 1
    assert service.closed == ["echo"]


def test_a_handle_in_use_is_not_closed_under_its_request(service):
    async def run() -> None:
        handles = handles_of(service)
        async with handles.use(ECHO) as handle:
            handles.drop("echo")
            await asyncio.sleep(0)
            assert not handle.closed
            async with handles.use(ECHO) as other:
                assert other is not handle
        await handles.close()
        assert handle.closed

    asyncio.run(run())


def test_a_handle_closed_by_the_daemon_is_replaced_before_it_is_used(service):
    async def run() -> None:
        handles = handles_of(service)
        await handles.signature(ECHO)
        service.attached[0].closed = True
        async with handles.use(ECHO) as handle:
            assert handle is service.attached[1]
        await handles.close()

    asyncio.run(run())


def test_a_failed_attach_is_tried_again(service):
    async def run() -> None:
        handles = handles_of(service)
        service.gone.add("echo")
        with pytest.raises(errors.NotFound):
            await handles.signature(ECHO)
        service.gone.clear()
        assert (await handles.signature(ECHO)).inputs
        await handles.close()

    asyncio.run(run())


# --- the document -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("documented", "real"),
    [
        (schema.Model, ModelInfo),
        (schema.Version, VersionInfo),
        (schema.Worker, WorkerInfo),
    ],
)
def test_what_is_documented_is_what_the_service_returns(documented, real):
    assert documented.__struct_fields__ == real.__struct_fields__


def test_what_is_documented_of_a_plugin_is_its_status_and_who_runs_it():
    own = (*PluginStatus.__struct_fields__, "python", "warm", "workers")
    assert schema.Plugin.__struct_fields__ == own


def test_the_c_library_keeps_freed_memory():
    assert keep_freed_memory()
