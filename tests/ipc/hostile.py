# SPDX-License-Identifier: BUSL-1.1
"""The hostile client: forges everything it can write, again and again.

    python tests/ipc/hostile.py CASES [SEED] [--jobs N]

Each case forges something in one channel and lets the worker step through it; a second,
well-behaved channel of the same worker must keep getting right answers. In some cases it
is the reply that is forged, and the client that must survive.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import faulthandler
import json
import mmap
import os
import random
import struct
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import numpy as np

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

from channel_layout import FREE, GEOMETRY, HEADER, HEADER_BYTES, SLOT, Segment, word
from channel_rig import Rig, outputs_of

from mlos_core.errors import ChannelBroken, MlosError
from mlos_core.ipc import header as wire
from mlos_core.ipc.channel import Mapping
from mlos_core.types import DTYPES

SLOTS = 4
ARENA = 8192
OWNER = 7
EDGES = [
    *(0, 1, 2, 3, 4, 7, 8, 63, 64, 65, 255, 256, 1023, 1024, 1025, 4095, 4096, 4097, 8192),
    *(1 << bits for bits in (16, 20, 24, 30, 31, 32, 33, 40, 47, 53, 62, 63)),
    *((1 << bits) - 1 for bits in (16, 20, 24, 30, 31, 32, 33, 40, 47, 53, 62, 63, 64)),
]
NAMES = ["x", "y", "b", "", "\x00", "é" * 40, "x" * 300]
KINDS = {
    "header_random": 10,
    "header_mutated": 25,
    "header_forged": 35,
    "slot_field": 12,
    "ring": 8,
    "shared_field": 8,
    "scribble": 8,
    "word_while_held": 8,
    "recover": 4,
    "reply": 14,
    "map": 4,
    "truncate": 1,
}


class Fuzz:
    """One worker with a hostile and a well-behaved channel, stepped in one thread."""

    def __init__(self, seed):
        self.rng = random.Random(seed)
        self.rig = Rig()
        self.port = self.rig.port(owner=OWNER, max_attempts=3)
        good = self.rig.channel(SLOTS, ARENA, ARENA, event_bytes=256)
        self.port.attach(os.dup(good[0]), os.dup(good[1]))
        self.model = self.rig.model(good)
        self.good = Segment(good[0])
        self.counts = collections.Counter()
        self.errors = collections.Counter()
        self.held = []
        self.fd = -1
        self.renew()

    def close(self):
        self.drop()
        self.good.close()
        self.rig.close()

    # --- the hostile channel -----------------------------------------------------------------

    def renew(self):
        """A new hostile channel in place of the old one."""
        self.drop()
        fds = self.rig.channel(SLOTS, ARENA, ARENA, event_bytes=256)
        self.fd, self.event_fd = fds
        self.index = self.port.attach(os.dup(fds[0]), os.dup(fds[1]))
        self.segment = Segment(self.fd)
        self.control = bytes(self.segment.map[: self.segment.offsets["events_off"]])
        self.step()
        self.counts["channels"] += 1

    def drop(self):
        if self.fd < 0:
            return
        for request in self.held:
            self.finish(request)
        self.held.clear()
        self.segment.close()
        self.port.detach(self.index)
        self.port.poll()
        assert self.index not in self.port.channels(), "a channel was not let go"
        for fd in (self.fd, self.event_fd):
            self.rig.fds.remove(fd)
            os.close(fd)
        self.fd = -1

    def restore(self):
        """Undo what the case did, or begin anew where the worker gave the channel up."""
        for request in self.held:
            self.finish(request)
        self.held.clear()
        broken = self.port.broken()
        if broken:
            assert [index for index, _ in broken] == [self.index], broken
            self.counts["given up"] += 1
            self.renew()
        else:
            # Generations go on; answers that the worker still owes find another word.
            self.segment.map[: len(self.control)] = self.control

    # --- the worker --------------------------------------------------------------------------

    def finish(self, request):
        try:
            if request.kind == wire.STREAM:
                for number in range(3):
                    request.emit(number)  # the ring may look full; nobody waits for that
            request.answer(outputs_of(request))
        except MlosError as error:
            self.errors[error.code] += 1
            request.fail(error)
        self.counts["run"] += 1

    def step(self, between=None):
        """Run what comes; `between` is called while the worker holds a request."""
        idle = 0
        while idle < 6:
            request = self.port.poll()
            if request is None:
                idle += 1
                continue
            idle = 0
            self.look_at(request)
            if request.channel == self.index and between is not None:
                between()
            if request.channel == self.index and self.rng.random() < 0.1:
                self.held.append(request)
            else:
                self.finish(request)

    def look_at(self, request):
        """What a loop reads of a request: all of it lies in memory that is there."""
        for array in request.inputs.values():
            assert not array.flags.writeable or array.dtype == object
            if array.dtype != object and array.size:
                array.tobytes()
        request.cancelled()
        assert request.attempt <= 15
        assert request.deadline_ns >= 0
        assert request.submitted_ns <= request.taken_ns

    def check_neighbour(self):
        """The well-behaved channel gets a right answer."""
        x = np.arange(self.rng.randrange(1, 40), dtype=np.float64) + self.rng.random()
        future = self.model.submit({"x": x}, timeout=30.0)
        self.step()
        for request in self.held:
            self.finish(request)
        self.held.clear()
        if not future.done():
            self.step()
        assert future.done(), "the neighbour got no answer"
        answer = future.result()["y"]
        assert np.array_equal(answer, 2 * x + 1), "the neighbour got a wrong answer"

    # --- what is forged ----------------------------------------------------------------------

    def number(self):
        kind = self.rng.randrange(4)
        if kind == 0:
            return self.rng.randrange(1 << 64)
        if kind == 1:
            return self.rng.randrange(-(1 << 31), 1 << 16)
        if kind == 2:
            return self.segment.map.size() + self.rng.randrange(-65, 66)
        return self.rng.choice(EDGES)

    def valid_header(self):
        offset, _ = self.segment.where("small_c", self.rng.randrange(SLOTS))
        count = self.rng.randrange(1, 17)
        dtype = self.rng.choice([*DTYPES, "bytes"])
        size = 8 if dtype == "bytes" else DTYPES[dtype].itemsize
        if dtype == "bytes":
            self.segment.write(offset, struct.pack("<I", 4) * 2)
            count = 1
        ref = ["b" if dtype == "bytes" else "x", dtype, [count], offset, size * count]
        kind = self.rng.choice([wire.INFER, wire.INFER, wire.STREAM, wire.PING])
        return [kind, [ref], [], {"events": self.rng.randrange(4)}]

    def junk(self, depth=0):
        choice = self.rng.randrange(10 if depth < 4 else 7)
        if choice == 0:
            return self.rng.randbytes(self.rng.randrange(20))
        if choice == 1:
            return self.rng.choice(NAMES)
        if choice == 2:
            return self.rng.choice([None, True, False, float("nan"), 1e308])
        if choice == 3:
            return msgspec.msgpack.Ext(self.rng.randrange(-128, 128), self.rng.randbytes(4))
        if choice < 7:
            return max(-(1 << 63), min((1 << 64) - 1, self.number()))
        if choice < 9:
            return [self.junk(depth + 1) for _ in range(self.rng.randrange(5))]
        return {str(self.junk(depth + 2)): self.junk(depth + 1) for _ in range(3)}

    def forged_ref(self):
        head = self.valid_header()[1][0]
        for _ in range(self.rng.randrange(1, 4)):
            place = self.rng.randrange(5)
            if place == 0:
                head[0] = self.rng.choice(NAMES)
            elif place == 1:
                head[1] = self.rng.choice([*DTYPES, "bytes", "object", "", "datetime64[ns]", ">f4"])
            elif place == 2:
                dims = self.rng.choice([0, 1, 2, 3, 8, 16, 17, 33, 70])
                head[2] = [self.rng.choice([0, 1, 2, self.clamped()]) for _ in range(dims)]
            else:
                head[place] = self.clamped()
        if self.rng.random() < 0.2:
            head[self.rng.randrange(5)] = self.junk()
        return head if self.rng.random() < 0.9 else self.junk()

    def clamped(self):
        return max(-(1 << 63), min((1 << 64) - 1, self.number()))

    def forged_header(self):
        head = self.valid_header()
        head[1] = [self.forged_ref() for _ in range(self.rng.randrange(4))]
        if self.rng.random() < 0.3:
            head[self.rng.randrange(4)] = self.junk()
        if self.rng.random() < 0.02:
            depth = self.rng.choice([10, 300, 900])
            return b"\x94\x00\x90\x90\x81\xa1k" + b"\x91" * depth + b"\xc0"
        return msgspec.msgpack.encode(head)

    def submit(self, header):
        header = header[:1024] if len(header) > 1024 else header
        self.segment.submit(self.rng.randrange(SLOTS), header)

    def header_random(self):
        self.submit(self.rng.randbytes(self.rng.randrange(200)))

    def header_mutated(self):
        raw = bytearray(msgspec.msgpack.encode(self.valid_header()))
        for _ in range(self.rng.randrange(1, 5)):
            at, kind = self.rng.randrange(len(raw) or 1), self.rng.randrange(4)
            if kind == 0 and raw:
                raw[at] ^= 1 << self.rng.randrange(8)
            elif kind == 1 and raw:
                raw[at] = self.rng.choice([0, 0x7F, 0x80, 0xC1, 0xCF, 0xD3, 0xDC, 0xDD, 0xDF, 0xFF])
            elif kind == 2:
                raw[at:at] = self.rng.randbytes(self.rng.randrange(1, 9))
            elif len(raw) > 1:
                del raw[at : at + self.rng.randrange(1, 9)]
        self.submit(bytes(raw))

    def header_forged(self):
        for _ in range(self.rng.randrange(1, 3)):
            self.submit(self.forged_header())

    def slot_field(self):
        slot = self.rng.randrange(SLOTS)
        self.segment.submit(slot, msgspec.msgpack.encode(self.valid_header()))
        for _ in range(self.rng.randrange(1, 4)):
            field = self.rng.choice(list(SLOT)[:15])
            self.segment.set(field, self.forged_word() if field == "word" else self.number(), slot)

    def forged_word(self):
        return word(
            self.rng.randrange(1 << 32),
            self.rng.choice([0, 1, OWNER, OWNER + 1, (1 << 24) - 1]),
            self.rng.randrange(16),
            self.rng.randrange(16),
        )

    def ring(self):
        self.submit(msgspec.msgpack.encode(self.valid_header()))
        for _ in range(self.rng.randrange(1, 6)):
            kind = self.rng.randrange(4)
            if kind == 0:
                self.segment.push(self.number() % (1 << 32))
            elif kind == 1:
                self.segment.push(self.rng.randrange(SLOTS))
            else:
                field = self.rng.choice(["head", "tail"])
                near = self.segment.get(field) + self.rng.randrange(-6, 7)
                self.segment.set(field, near if self.rng.random() < 0.5 else self.number())

    def shared_field(self):
        self.submit(msgspec.msgpack.encode(self.valid_header()))
        offset, size = HEADER[self.rng.choice(list(HEADER))]
        self.segment.write(offset, self.rng.randbytes(size))

    def scribble(self):
        self.submit(msgspec.msgpack.encode(self.valid_header()))
        end = self.segment.map.size()
        if self.rng.random() < 0.7:
            end = len(self.control)  # where it hurts
        start = self.rng.randrange(end)
        length = min(self.rng.choice([1, 4, 8, 64, 1024, 9000]), end - start)
        data = self.rng.choice([b"\0" * length, b"\xff" * length, self.rng.randbytes(length)])
        self.segment.write(start, data)

    def word_while_held(self):
        """Bytes change while the worker holds the request."""
        slot = self.rng.randrange(SLOTS)
        self.segment.submit(slot, msgspec.msgpack.encode(self.valid_header()))
        act = self.rng.choice([self.slot_field, self.scribble, self.ring, self.shared_field])
        self.step(between=act)

    def recover(self):
        """The daemon asks for recovery in a segment whose slots are forged."""
        for slot in range(SLOTS):
            if self.rng.random() < 0.7:
                self.segment.submit(slot, msgspec.msgpack.encode(self.valid_header()))
                self.segment.set("word", self.forged_word(), slot)
                self.segment.set("sequence", self.number(), slot)
        self.port.recover(self.index, self.rng.choice([0, OWNER, 100]), (1, OWNER))
        if self.rng.random() < 0.5:
            self.port.recover(self.index, 100, ())
        if self.rng.random() < 0.3:
            self.step(between=self.slot_field)

    def map(self):
        """A segment with a forged header is mapped, by a new worker or the daemon."""
        raw = bytearray(self.control[:HEADER_BYTES])
        for _ in range(self.rng.randrange(1, 3)):
            offset, size = HEADER[self.rng.choice(["magic", *GEOMETRY])]
            raw[offset : offset + size] = (self.number() % (1 << 8 * size)).to_bytes(size, "little")
        same = raw[8:104] == self.control[8:104]
        self.segment.write(0, bytes(raw))
        try:
            mapping = Mapping(self.fd, -1, guarded=True)
        except ChannelBroken:
            self.counts["refused maps"] += 1
        else:
            assert mapping.size <= os.fstat(self.fd).st_size
            assert same or mapping.slots <= 1024

    def truncate(self):
        self.submit(msgspec.msgpack.encode(self.valid_header()))
        size = self.rng.choice(
            [0, 1, mmap.PAGESIZE, 2 * mmap.PAGESIZE, self.segment.map.size() // 2]
        )
        if self.rng.random() < 0.3:
            self.step(between=lambda: os.ftruncate(self.fd, size))
        os.ftruncate(self.fd, size)
        self.step()
        for request in self.held:
            self.finish(request)
        self.held.clear()
        self.check_neighbour()
        if self.port.broken():
            self.counts["given up"] += 1
        self.counts["truncated"] += 1
        self.renew()

    # --- the client's side -------------------------------------------------------------------

    def reply(self):
        """A scribbled reply is an error of ours, or an answer; never anything else."""
        x = np.arange(4, dtype=np.float64)
        future = self.model.submit({"x": x}, timeout=30.0)
        slot = future._call.slot
        self.step()
        base, _ = self.good.where("reply", slot)
        length = self.good.get("reply_len", slot)
        kind = self.rng.randrange(4)
        if kind == 0:
            for _ in range(self.rng.randrange(1, 6)):
                at = base + self.rng.randrange(max(1, length))
                self.good.write(at, self.rng.randbytes(1))
        elif kind == 1:
            self.good.set(self.rng.choice(["reply_off", "reply_len"]), self.number(), slot)
        elif kind == 2:
            refs = [self.forged_ref() for _ in range(self.rng.randrange(3))]
            raw = msgspec.msgpack.encode([refs, {}, *self.rng.choice([[], ["", "", ""], ["?"]])])
            self.good.write(base, raw[:1024])
            self.good.set("reply_len", len(raw[:1024]), slot)
        else:
            self.good.write(base, self.rng.randbytes(64))
        try:
            result = future.result()
        except MlosError as error:
            self.errors[error.code] += 1
        else:
            for array in result.values():
                if array.dtype != object:
                    array.tobytes()
            result.release()

    # --- running -----------------------------------------------------------------------------

    def case(self):
        kind = self.rng.choices(list(KINDS), list(KINDS.values()))[0]
        self.counts[kind] += 1
        getattr(self, kind)()
        self.step()
        self.check_neighbour()
        self.restore()

    def run(self, cases):
        for number in range(cases):
            if number % 256 == 0:
                faulthandler.dump_traceback_later(120, exit=True)  # hanging is failing
            self.case()
        faulthandler.cancel_dump_traceback_later()
        counters = self.port.counters()
        self.counts["answered"] = counters["answered"]
        self.counts["failures"] = counters["failures"]
        return self


def rss_mib():
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * mmap.PAGESIZE // (1 << 20)


def one_job(cases, seed):
    """All cases in this process; prints what happened as JSON."""
    start = time.monotonic()
    fuzz = Fuzz(seed)
    fuzz.run(min(cases, 2000))
    settled = rss_mib()
    fuzz.run(max(0, cases - 2000))
    assert fuzz.good.get("head") == fuzz.good.get("tail")
    assert all(fuzz.good.state(s) in (FREE, 3) for s in range(SLOTS))
    fds = len(list(Path("/proc/self/fd").iterdir()))
    fuzz.close()
    print(
        json.dumps(
            {
                "cases": cases,
                "seed": seed,
                "seconds": round(time.monotonic() - start, 1),
                "rss_mib": [settled, rss_mib()],
                "fds": fds,
                "counts": dict(fuzz.counts),
                "errors": dict(fuzz.errors),
            }
        )
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", type=int)
    parser.add_argument("seed", type=int, nargs="?", default=1)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--child", action="store_true")
    options = parser.parse_args()
    if options.child:
        one_job(options.cases, options.seed)
        return 0
    share = -(-options.cases // options.jobs)
    jobs = [
        subprocess.Popen(
            [sys.executable, "-P", __file__, str(share), str(options.seed + n), "--child"],
            stdout=subprocess.PIPE,
            text=True,
        )
        for n in range(options.jobs)
    ]
    total, seconds, bad = collections.Counter(), 0.0, 0
    for job in jobs:
        out, _ = job.communicate()
        print(out.strip())
        bad += job.returncode != 0
        with contextlib.suppress(ValueError):
            told = json.loads(out)
            total.update(told["counts"])
            total["cases"] += told["cases"]
            seconds = max(seconds, told["seconds"])
    print(
        f"{total['cases']} cases, {total['answered']} answers, {total['failures']} refusals, "
        f"{total['given up']} channels given up, {total['refused maps']} maps refused, "
        f"{bad} of {len(jobs)} jobs failed, {seconds} s"
    )
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
