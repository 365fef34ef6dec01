# SPDX-License-Identifier: BUSL-1.1
"""State machines: the channel against models of plain Python."""

import numpy as np
from channel_layout import DONE, FILLED, FREE, TAKEN, Segment
from channel_rig import Rig
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from mlos_core.errors import MlosError
from mlos_core.ipc import channel
from mlos_core.ipc.native import AGAIN, TOO_BIG, ffi, lib

SLOTS = 4


class Worker:
    """A port, and what the model knows of it."""

    def __init__(self, port, owner):
        self.port = port
        self.owner = owner
        self.held = {}  # slot: Request
        self.inherited = []  # slots it took over and has not begun


class Slots(RuleBasedStateMachine):
    """Client operations and several workers, one of which dies now and then.

    The model knows of each slot: its state, the text of its request, the attempts.
    """

    @initialize()
    def begin(self):
        self.rig = Rig()
        self.fds = self.rig.channel(slots=SLOTS, request_bytes=4096, reply_bytes=4096)
        self.link = self.rig.link(self.fds)
        self.segment = Segment(self.fds[0])
        self.state = [None] * SLOTS  # None: not acquired
        self.number = [0] * SLOTS
        self.attempts = [0] * SLOTS
        self.cancelled = [False] * SLOTS
        self.answer = [None] * SLOTS
        self.queue = []
        self.workers = []
        self.owners = 0
        self.requests = 0
        self.add_worker()

    def teardown(self):
        if hasattr(self, "rig"):
            self.segment.close()
            for worker in self.workers:
                worker.held.clear()
            self.rig.close()

    # --- the client ---

    @rule()
    def acquire(self):
        got = lib.mlos_slot_acquire(self.link.pointer)
        if None in self.state:
            assert self.state[got] is None
            self.state[got] = FREE
        else:
            assert got == AGAIN

    @rule(slot=st.integers(0, SLOTS - 1))
    def submit(self, slot):
        if self.state[slot] is None:
            return
        self.requests += 1
        # A request that is not answered yet is still read: its header stays as it is.
        if self.state[slot] in (FREE, DONE):
            raw = self.header(self.requests)
            at = lib.mlos_slot_request_off(self.link.pointer, slot)
            self.link.mapping.segment[at : at + len(raw)] = raw
        else:
            at, raw = 0, b""
        rc = lib.mlos_submit(self.link.pointer, self.link.bell, slot, at, len(raw), -1)
        if self.state[slot] in (FILLED, TAKEN):
            assert rc == AGAIN
            return
        assert rc == 0
        self.state[slot] = FILLED
        self.number[slot] = self.requests
        self.attempts[slot] = 0
        self.cancelled[slot] = False
        self.queue.append(slot)

    @staticmethod
    def header(number):
        from mlos_core.ipc import header as wire

        return wire.encode(wire.RequestHeader(wire.INFER, (), (), {"number": number}))

    @rule(slot=st.integers(0, SLOTS - 1))
    def cancel(self, slot):
        if self.state[slot] is None:
            return
        lib.mlos_cancel(self.link.pointer, slot)
        if self.state[slot] in (FILLED, TAKEN):
            self.cancelled[slot] = True

    @rule(slot=st.integers(0, SLOTS - 1))
    def poll(self, slot):
        if self.state[slot] in (None, FREE):
            assert lib.mlos_poll(self.link.pointer, slot) == lib.MLOS_E_ARGUMENT
            return
        rc = lib.mlos_poll(self.link.pointer, slot)
        assert (rc == AGAIN) == (self.state[slot] != DONE)
        if rc > 0:
            self.check_reply(slot)

    def check_reply(self, slot):
        from mlos_core.ipc import header as wire

        length = ffi.new("uint32_t *")
        where = lib.mlos_reply(self.link.pointer, slot, length)
        head = wire.decode_reply(ffi.buffer(where, length[0])[:])
        if self.answer[slot] is None:
            assert head.code in ("cancelled", "quarantined")
        else:
            assert head.parameters == {"answer": self.answer[slot]}
            assert self.answer[slot] == self.number[slot]

    @rule(slot=st.integers(0, SLOTS - 1))
    def release(self, slot):
        if self.state[slot] is None:
            return
        rc = lib.mlos_slot_release(self.link.pointer, slot)
        if self.state[slot] in (FILLED, TAKEN):
            assert rc == AGAIN
        else:
            assert rc == 0
            self.state[slot] = None

    # --- the workers ---

    @precondition(lambda self: len(self.workers) < 4)
    @rule()
    def add_worker(self):
        self.owners += 1
        owner = self.owners
        self.workers.append(Worker(self.rig.port(self.fds, owner=owner, lane=owner % 32), owner))

    @rule(data=st.data())
    def claim(self, data):
        worker = data.draw(st.sampled_from(self.workers))
        request = worker.port.poll()
        slot = self.next_for(worker)
        if slot is None:
            assert request is None
            return
        assert (request is None) == self.refused(slot)
        if request is None:
            self.state[slot], self.answer[slot] = DONE, None
            return
        assert request.parameters == {"number": self.number[slot]}
        assert request.attempt == self.attempts[slot]
        self.state[slot] = TAKEN
        worker.held[slot] = request

    def next_for(self, worker):
        """The slot that this worker claims next: what it inherited, then the queue."""
        if worker.inherited:
            return worker.inherited.pop(0)
        return self.queue.pop(0) if self.queue else None

    def refused(self, slot):
        return self.cancelled[slot] or self.attempts[slot] >= 3

    @rule(data=st.data())
    def answer_one(self, data):
        worker = data.draw(st.sampled_from(self.workers))
        if not worker.held:
            return
        slot = data.draw(st.sampled_from(sorted(worker.held)))
        request = worker.held.pop(slot)
        assert request.cancelled() == self.cancelled[slot]
        request.answer({}, {"answer": request.parameters["number"]})
        self.state[slot], self.answer[slot] = DONE, self.number[slot]
        request.answer({}, {"answer": -1})  # once more: of no effect

    @precondition(lambda self: len(self.workers) > 1)
    @rule(data=st.data())
    def die_and_recover(self, data):
        dead = data.draw(st.sampled_from(self.workers))
        self.workers.remove(dead)
        heir = data.draw(st.sampled_from(self.workers))
        alive = tuple(worker.owner for worker in self.workers)
        heir.port.recover(0, self.owners + 1, alive)
        heir.port._obey()
        orphans = sorted(set(dead.held) | set(dead.inherited))
        for slot in orphans:
            self.attempts[slot] = min(15, self.attempts[slot] + 1)
        heir.inherited += orphans
        self.late = dead

    @precondition(lambda self: getattr(self, "late", None) is not None)
    @rule()
    def a_dead_worker_wakes_up(self):
        for request in self.late.held.values():
            request.answer({}, {"answer": -2})
        self.late.held.clear()

    # --- what always holds ---

    @invariant()
    def words_are_as_the_model_says(self):
        for slot in range(SLOTS):
            wanted = self.state[slot]
            assert self.segment.state(slot) == (FREE if wanted is None else wanted)
        assert lib.mlos_slots_free(self.link.pointer) == self.state.count(None)


class Arena(RuleBasedStateMachine):
    """The client's allocator: no overlap, all memory comes back, never outside."""

    @initialize(pages=st.integers(1, 8))
    def begin(self, pages):
        fd = channel.create(1, pages * 4096, 4096)
        self.mapping = channel.Mapping(fd, guarded=False)
        self.fd = fd
        self.size = pages * 4096
        segment = Segment(fd)
        self.low = segment.offsets["arena_c_off"]
        segment.close()
        self.given = {}

    def teardown(self):
        if hasattr(self, "fd"):
            import os

            os.close(self.fd)

    @rule(size=st.one_of(st.integers(0, 300), st.integers(0, 40000)))
    def allocate(self, size):
        at = lib.mlos_arena_alloc(self.mapping.pointer, size)
        if size > self.size:
            assert at == TOO_BIG
        elif at == AGAIN:
            assert self.largest_gap() < max(64, -(-size // 64) * 64)
        else:
            self.given[at] = max(64, -(-size // 64) * 64)

    @precondition(lambda self: self.given)
    @rule(data=st.data())
    def free(self, data):
        at = data.draw(st.sampled_from(sorted(self.given)))
        assert lib.mlos_arena_free(self.mapping.pointer, at) == 0
        del self.given[at]
        assert lib.mlos_arena_free(self.mapping.pointer, at) < 0

    @rule(at=st.integers(0, 1 << 20))
    def free_what_was_not_given(self, at):
        if at not in self.given:
            assert lib.mlos_arena_free(self.mapping.pointer, at) < 0

    def gaps(self):
        end = self.low
        for at, size in sorted(self.given.items()):
            yield at - end
            end = at + size
        yield self.low + self.size - end

    def largest_gap(self):
        return max(self.gaps())

    @invariant()
    def nothing_overlaps_or_lies_outside(self):
        if hasattr(self, "given"):
            assert all(gap >= 0 for gap in self.gaps())
            assert all(at % 64 == 0 for at in self.given)
            assert lib.mlos_arena_used(self.mapping.pointer) == sum(self.given.values())


class Replies(RuleBasedStateMachine):
    """Arena W: replies of slots under way or unread never overlap; what moved on is free."""

    BLOCKS = 8

    @initialize()
    def begin(self):
        self.rig = Rig()
        self.fds = self.rig.channel(slots=SLOTS, request_bytes=4096, reply_bytes=4096 * self.BLOCKS)
        self.model = self.rig.model(self.fds)
        self.port = self.rig.port(self.fds)
        segment = Segment(self.fds[0])
        self.low = segment.get("arena_w_off")
        segment.close()
        self.running = []  # [future, request, {name: (array, fill)}]
        self.unread = []  # [result, {name: fill}]
        self.fill = 0

    def teardown(self):
        if hasattr(self, "rig"):
            self.running.clear()
            self.unread.clear()
            self.rig.close()

    @precondition(lambda self: len(self.running) + len(self.unread) < SLOTS)
    @rule()
    def submit(self):
        future = self.model.submit({"x": np.zeros(1)})
        self.running.append([future, self.port.poll(), {}])

    @precondition(lambda self: self.running)
    @rule(data=st.data(), size=st.one_of(st.integers(0, 2000), st.integers(0, 40000)))
    def allocate(self, data, size):
        _, request, made = data.draw(st.sampled_from(self.running))
        name = f"o{len(made)}"
        try:
            array = request.allocate(name, "uint8", (size,))
        except MlosError as error:
            if error.code == "payload_too_large":
                assert size > 4096 * self.BLOCKS
            else:
                assert self.blocks_in_use() + -(-size // 4096) > self.BLOCKS or self.fragmented()
            return
        self.fill = self.fill % 250 + 1
        array[:] = self.fill
        made[name] = (array, self.fill)

    def blocks_in_use(self):
        made = [a for _, _, m in self.running for a, _ in m.values()]
        made += [a for result, _ in self.unread for a in result.values()]
        return sum(-(-a.nbytes // 4096) for a in made)

    def fragmented(self):
        return self.blocks_in_use() > 0

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def answer(self, data):
        future, request, made = self.running.pop(data.draw(st.integers(0, len(self.running) - 1)))
        self.check(made.items())
        request.answer({name: array for name, (array, _) in made.items()})
        result = future.result()
        self.unread.append([result, {name: fill for name, (_, fill) in made.items()}])

    @precondition(lambda self: self.unread)
    @rule(data=st.data())
    def release(self, data):
        result, _ = self.unread.pop(data.draw(st.integers(0, len(self.unread) - 1)))
        result.release()
        while self.model._link._evict():  # a resting call keeps its last reply's blocks
            pass

    @staticmethod
    def check(items):
        for name, (array, fill) in items:
            assert (array == fill).all(), name

    @invariant()
    def nobody_wrote_into_anothers_reply(self):
        if not hasattr(self, "running"):
            return
        for _, _, made in self.running:
            self.check(made.items())
        for result, fills in self.unread:
            for name, fill in fills.items():
                assert (result[name] == fill).all()


LIMITS = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestSlots = Slots.TestCase
TestSlots.settings = LIMITS
TestArena = Arena.TestCase
TestArena.settings = LIMITS
TestReplies = Replies.TestCase
TestReplies.settings = LIMITS
