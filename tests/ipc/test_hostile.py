# SPDX-License-Identifier: BUSL-1.1
"""The hostile client of `hostile.py`, some thousands of its cases, and a few by name."""

import importlib.util
import os
import struct
from pathlib import Path

import msgspec
import numpy as np
import pytest
from channel_layout import DONE, Segment
from channel_rig import outputs_of, step

from mlos_core.errors import ChannelBroken, InvalidInput
from mlos_core.ipc import header as wire

spec = importlib.util.spec_from_file_location("hostile", Path(__file__).with_name("hostile.py"))
hostile = importlib.util.module_from_spec(spec)
spec.loader.exec_module(hostile)


@pytest.mark.parametrize("seed", range(4))
def test_nothing_that_is_forged_disturbs_the_worker_or_a_neighbour(seed):
    fuzz = hostile.Fuzz(seed)
    try:
        fuzz.run(1500)
    finally:
        fuzz.close()
    assert sum(fuzz.counts[kind] for kind in hostile.KINDS) == 1500


@pytest.mark.parametrize("kind", hostile.KINDS)
def test_each_way_to_forge_alone(kind):
    fuzz = hostile.Fuzz(9)
    try:
        for _ in range(120):
            getattr(fuzz, kind)()
            fuzz.step()
            fuzz.check_neighbour()
            fuzz.restore()
    finally:
        fuzz.close()


def ref(name="x", dtype="float64", shape=(2,), offset=None, nbytes=16):
    return [name, dtype, list(shape), offset, nbytes]


@pytest.fixture
def forger(rig):
    """`forger(header)` submits raw bytes or a structure; it gives the reply header."""
    fds = rig.channel()
    port, segment = rig.port(fds), Segment(fds[0])
    small, _ = segment.where("small_c", 0)

    def submit(header):
        if not isinstance(header, bytes):
            for tensor in header[1] if isinstance(header[1], list) else ():
                if tensor[3] is None:
                    tensor[3] = small
            header = msgspec.msgpack.encode(header)
        segment.submit(0, header)
        step(port)
        assert segment.state(0) == DONE, "no answer"
        at, length = segment.get("reply_off", 0), segment.get("reply_len", 0)
        return wire.decode_reply(segment.map[at : at + length])

    yield submit
    segment.close()


def test_a_sound_header_is_answered(forger):
    reply = forger([wire.INFER, [ref()], [], {}])
    assert reply.code == ""
    assert reply.outputs[0].name == "y"


HUGE = 1 << 62
BAD = {
    "behind the end": ref(offset=HUGE),
    "before the start": ref(offset=-8),
    "negative size": ref(nbytes=-16),
    "size of another shape": ref(shape=(3,)),
    "negative shape": ref(shape=(-2,)),
    "two negative sides": ref(shape=(-1, -2)),
    "product that wraps to the size": ref(shape=(1 << 32, 1 << 32, 2)),
    "nothing, of impossible sides": ref(shape=(0, *[1 << 20] * 8), nbytes=0),
    "strings, product wraps to none": ref(dtype="bytes", shape=[1 << 20] * 16, nbytes=0),
    "strings, nothing of impossible sides": ref(dtype="bytes", shape=(0, *[1 << 20] * 8), nbytes=0),
    "strings that end early": ref(dtype="bytes", shape=(9,), nbytes=8),
    "too many sides": ref(shape=(1,) * 40, nbytes=8),
    "unknown dtype": ref(dtype="float128"),
    "object dtype": ref(dtype="object"),
    "odd offset": ref(offset=10007),
    "no dtype": ref(dtype=""),
    "number for a name": ref(name=7),
    "text for a size": ref(nbytes="16"),
    "fraction for a size": ref(nbytes=16.5),
    "text for a shape": ref(shape="ab"),
    "too few fields": ["x"],
    "no tensor": 7,
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
def test_a_forged_tensor_is_an_error_reply(forger, bad):
    if isinstance(bad, int) or len(bad) < 5:
        raw = msgspec.msgpack.encode([wire.INFER, [bad], [], {}])
        reply = forger(raw)
    else:
        reply = forger([wire.INFER, [list(bad)], [], {}])
    assert reply.code == InvalidInput.code
    assert forger([wire.INFER, [ref()], [], {}]).code == ""


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\xc1",
        b"\x94",
        b"\x90",
        b"\x94\x00\xdd\xff\xff\xff\xff\x90\x80",
        b"\x94\x00\x90\x90\xdf\xff\xff\xff\xff",
        b"\x94\x00\x90\x90\x81\xa1k" + b"\x91" * 1000,
        b"\x94\x00\x90\x90\x81\xa1k\xc7\xff\x05",
        b"\x94\x00\x90\x91\xa2\xff\xfe\x80",
        b"\x94\xcf" + b"\xff" * 8 + b"\x90\x90\x80",
    ],
)
def test_bytes_that_are_no_header_are_an_error_reply(forger, raw):
    assert forger(raw).code == InvalidInput.code


@pytest.mark.parametrize(
    "value",
    [b"\x81\xa1k" * 300 + b"\xc0", b"\xd6\xff" + struct.pack(">I", 0xFFFFFFFF), b"\xd4\x05\x00"],
    ids=["deep", "timestamp", "extension"],
)
def test_a_parameter_may_be_anything_that_msgpack_knows(forger, value):
    assert forger(b"\x94\x00\x90\x90\x81\xa1k" + value).code == ""


def test_two_inputs_of_one_name_are_refused(forger):
    assert forger([wire.INFER, [ref(), ref()], [], {}]).code == InvalidInput.code


def test_a_name_longer_than_an_error_message_is_cut(forger):
    reply = forger([wire.INFER, [ref(name="é" * 300, offset=-1)], [], {}])
    assert reply.code == InvalidInput.code
    assert len(reply.message.encode()) < 960


def test_a_segment_scribbled_on_all_the_time_disturbs_nobody(rig):
    """Another process keeps overwriting random places of the control part."""
    bad, good = rig.channel(event_bytes=256), rig.channel()
    segment = Segment(bad[0])
    end = segment.offsets["events_off"]
    sound = bytes(segment.map[:end])
    pid = os.fork()
    if pid == 0:
        rng = hostile.random.Random(5)
        valid = msgspec.msgpack.encode([0, [ref(offset=segment.where("small_c", 0)[0])], [], {}])
        while True:
            segment.map[:end] = sound
            for slot in range(8):
                segment.submit(slot, valid)
            for _ in range(30):
                at = rng.randrange(end - 16)
                segment.write(at, rng.randbytes(rng.choice([1, 4, 8, 16])))
    rig.pids.append(pid)
    port, model = rig.port(bad, good), rig.model(good)
    ran = 0
    for number in range(1500):
        future = model.submit({"x": np.full(3, float(number))})
        for _ in range(30):
            request = port.poll()
            if request is None:
                continue
            ran += request.channel != 1
            request.answer(outputs_of(request))
        assert (future.result(timeout=20)["y"] == 2 * number + 1).all()
        for index, _ in port.broken():
            port.detach(index)
            # The scribbler may have its hand on the header at this very moment.
            fd = os.dup(bad[0])
            try:
                port.attach(fd)
            except ChannelBroken:
                os.close(fd)
    assert ran > 0
    rig.kill(pid)
    segment.close()


def test_a_reply_forged_by_a_worker_is_a_broken_channel(rig):
    fds = rig.channel()
    model, port, segment = rig.model(fds), rig.port(fds), Segment(fds[0])
    small = segment.where("small_w", 0)[0]
    forged = [
        [[["y", "float64", [2], HUGE, 16]]],
        [[["y", "float64", [2], small, 1 << 40]]],
        [[["y", "float64", [-2], small, 16]]],
        [[["y", "float64", [0, *[1 << 18] * 8], small, 0]]],
        [[["y", "bytes", [4], small, 16]]],
        [[["y", "void", [2], small, 16]]],
        [[["y", "float64", [1 << 40], small, 8 << 40]]],
        [7],
        {"a": 1},
    ]
    for head in forged:
        future = model.submit({"x": np.zeros(1)})
        slot = future._call.slot
        step(port)
        raw = msgspec.msgpack.encode(head)
        segment.write(segment.where("reply", slot)[0], raw)
        segment.set("reply_len", len(raw), slot)
        with pytest.raises((ChannelBroken, InvalidInput)):
            future.result()
    future = model.submit({"x": np.zeros(1)})
    step(port)
    assert (future.result()["y"] == 1).all()
    segment.close()
