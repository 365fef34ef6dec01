# SPDX-License-Identifier: BUSL-1.1
"""The client's end of one channel: slots, memory, and the calls made of them.

Guarantees: memory of a request is given away only after its answer; a channel inherited
through fork is never used by the child. Thread-safe.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any, Final

from mlos_core.client.session import Session
from mlos_core.errors import (
    Closed,
    MlosError,
    Overloaded,
    PayloadTooLarge,
    Unavailable,
    from_wire,
)
from mlos_core.ipc import framing
from mlos_core.ipc.bell import map_bell
from mlos_core.ipc.channel import Mapping
from mlos_core.ipc.messages import Attached, Problem
from mlos_core.ipc.native import AGAIN, TOO_BIG, WAIT_MODES, check, failure, lib

_LOOK_AROUND_S: Final = 0.5
CLIENT_POLL_MAX_US: Final = 100


class Family(list[Any]):
    """Resting calls of one form; `members` counts those under way too."""

    members = 0


class Link:
    """One channel of this process.

    Args:
        session: the connection that the channel was asked for on.
        attached: the daemon's description.
        fds: segment, doorbell, completion eventfd; the link owns them.
        wait_mode: `adaptive`, `spin` or `block`.
        poll_max_us: longest adaptive polling in microseconds.
        asked: the name and version it was asked for by; they may be other words for the
            model's own, and no version follows the route.
    """

    def __init__(
        self,
        session: Session | None,
        attached: Attached,
        fds: list[int],
        wait_mode: str = "adaptive",
        poll_max_us: int = CLIENT_POLL_MAX_US,
        asked: tuple[str, str] | None = None,
    ) -> None:
        self.fd, bell_fd, self.event_fd = fds
        try:
            self.mapping = Mapping(self.fd, self.event_fd, guarded=False)
            self.bell = map_bell(bell_fd)
        except MlosError:
            framing.close_all((self.fd, self.event_fd))
            raise
        finally:
            os.close(bell_fd)
        self._old_bells: list[Any] = []
        self.pointer = self.mapping.pointer
        self.address = self.mapping.address
        self.channel = attached.channel
        self.model = attached.model
        self.version = attached.version
        self.asked = asked or (attached.model, "")
        self.signature = attached.signature
        self.session = session
        self._generation = session.generation if session is not None else 0
        self.closed = False
        self.inherited = False  # closed because this is a forked child
        self.why_closed: MlosError | None = None
        self.on_close: Callable[[], None] | None = None  # before the descriptors go
        self.copied_bytes = 0
        self.held = 0  # answers whose views are alive
        self.idle: dict[Any, Family] = {}
        self.waiting = 0  # threads that wait for a slot
        self._abandoned: list[Any] = []
        self._lock = threading.RLock()
        self.freed = threading.Condition(self._lock)
        self._looked = 0.0
        lib.mlos_client_bell(self.pointer, self.bell)
        lib.mlos_client_wait_mode(self.pointer, WAIT_MODES[wait_mode], poll_max_us * 1000)
        _links.add(self)

    # --- slots and memory ---------------------------------------------------------------

    def slot(self) -> int:
        """A free slot.

        Raises:
            Overloaded: all are in use.
        """
        return int(self._obtain(lambda: lib.mlos_slot_acquire(self.pointer), self._full))

    def allocate(self, size: int) -> int:
        """Room in the request arena: its offset in the segment.

        Raises:
            PayloadTooLarge: it is larger than the arena.
            Overloaded: the arena is full.
        """
        return int(
            self._obtain(
                lambda: lib.mlos_arena_alloc(self.pointer, size), lambda: self._no_room(size)
            )
        )

    def _obtain(self, attempt: Callable[[], int], problem: Callable[[], MlosError]) -> int:
        got = attempt()
        if got >= 0:
            return got
        if got == AGAIN:
            self.reap()
            while (got := attempt()) == AGAIN and self._evict():
                pass
        if got >= 0:
            return got
        if self.closed:
            raise Closed("the client was closed")
        raise problem() if got in (AGAIN, TOO_BIG) else failure(got)

    def _full(self) -> Overloaded:
        return Overloaded(
            f"all {self.mapping.slots} slots of the channel to {self.model!r} are in use",
            hint="release results, pass wait=True, or attach with more slots",
        )

    def _no_room(self, size: int) -> MlosError:
        room = self.mapping.request_bytes
        if size > room:
            return PayloadTooLarge(
                f"{size} bytes do not fit the request arena of {room}",
                hint=f"use client.model(..., request_bytes={size})",
            )
        full = Overloaded(
            f"the request arena of the channel to {self.model!r} is full",
            hint="release results, drop arrays made by alloc(), or attach with more request_bytes",
        )
        full.request_bytes = size
        return full

    def free(self, offset: int) -> None:
        """Give arena memory back."""
        if not self.closed:
            lib.mlos_arena_free(self.pointer, offset)

    # --- calls that rest --------------------------------------------------------------------

    def family(self, form: Any) -> Family:
        """Where calls of that form rest, with one member more.

        Families without members are dropped in passing.
        """
        with self._lock:
            for key in [k for k, f in self.idle.items() if not f.members and k != form]:
                del self.idle[key]
            family = self.idle.setdefault(form, Family())
            family.members += 1
            return family

    def leave(self, family: Family) -> None:
        """One member less."""
        with self._lock:
            family.members -= 1

    def hold(self) -> bool:
        """Count one more answer whose views are alive; false when half of the slots are held.

        Threads that hold answers and wait for slots would wait for each other otherwise.
        """
        with self._lock:
            if 2 * (self.held + 1) > self.mapping.slots:
                return False
            self.held += 1
            return True

    def let_go(self) -> None:
        """One answer less is held."""
        with self._lock:
            self.held -= 1

    def wake(self, form: Any) -> Any:
        """A resting call of that form, or `None`."""
        resting = self.idle.get(form)
        if resting:
            try:
                return resting.pop()  # atomic: one thread gets it
            except IndexError:  # another thread was faster
                pass
        return None

    def announce(self) -> None:
        """Somebody waits, and a slot or memory came free."""
        with self.freed:
            self.freed.notify()

    def wait_for_room(self, seconds: float) -> None:
        """Wait until a slot or memory may be free."""
        with self.freed:
            self.waiting += 1
            self.freed.wait(min(seconds, 0.05))  # bounded: the last word is the next attempt
            self.waiting -= 1

    def _evict(self) -> bool:
        """Free a resting call, of the oldest form first; false when none rests."""
        with self._lock:
            for resting in self.idle.values():
                try:
                    resting.pop(0).free()
                except IndexError:
                    continue
                return True
        return False

    def abandon(self, call: Any) -> None:
        """Nobody waits for this call any more: free it once it is answered."""
        with self._lock:
            if not self.closed:
                lib.mlos_cancel(self.pointer, call.slot)
                self._abandoned.append(call)

    def reap(self) -> None:
        """Free abandoned calls that were answered meanwhile."""
        with self._lock:
            # Taken out first: a future that dies meanwhile may add to the list.
            abandoned, self._abandoned = self._abandoned, []
            for call in abandoned:
                if lib.mlos_poll(self.pointer, call.slot) >= 0:
                    call.free()
                else:
                    self._abandoned.append(call)

    # --- the daemon --------------------------------------------------------------------------

    def shut(self) -> MlosError:
        """The daemon closed the channel: close this end too, and say why."""
        if self.why_closed is None:
            problem = self.mapping.reason() or Problem(
                "unavailable", "the channel was closed by the daemon"
            )
            self.why_closed = from_wire(problem.code, problem.message, problem.hint)
            self.close()
        return self.why_closed

    def look_around(self) -> None:
        """Called now and then while waiting: find a daemon that was restarted.

        A restarted daemon knows this channel from the workers it adopted; if none was left,
        only this client can give it back.
        """
        now = time.monotonic()
        session = self.session
        if session is None or self.closed or now - self._looked < _LOOK_AROUND_S:
            return
        self._looked = now
        if not self.forgotten():
            return
        try:
            self.resume()
        except Unavailable:
            return  # no daemon yet
        except MlosError as err:
            self.give_up(err)

    def give_up(self, why: MlosError) -> None:
        """The daemon that answers now does not take the channel: whoever waits is told why."""
        self.why_closed = why
        self.close()

    def forgotten(self) -> bool:
        """Whether the daemon that knew this channel as ours is gone."""
        session = self.session
        if session is None:
            return False
        return session.generation != self._generation or not session.alive()

    def resume(self) -> None:
        """Hand the channel to the daemon that answers now."""
        if self.session is None:
            return
        name, version = self.asked
        _, fds = self.session.resume(name, self.channel, (self.fd, self.event_fd), version)
        try:
            self._old_bells.append(self.bell)  # a thread may be ringing it
            self.bell = map_bell(fds[1])
            lib.mlos_client_bell(self.pointer, self.bell)
        finally:
            framing.close_all(fds)
        self._generation = self.session.generation

    def close(self, *, forked: bool = False) -> None:
        """Give the channel up. Arrays of it stay readable."""
        if not (forked or self.closed or self.why_closed) and self.forgotten():
            # A daemon that was restarted lets go only of what it knows to be this client's.
            with contextlib.suppress(MlosError):
                self.resume()
        with self._lock:
            if self.closed:
                return
            self.closed = True
            self.inherited = forked
            lib.mlos_client_disown(self.pointer)
            for family in self.idle.values():
                family.clear()
            self.idle.clear()
            self._abandoned.clear()
        on_close, self.on_close = self.on_close, None  # it holds this link, which would stay mapped
        if on_close is not None and not forked:
            on_close()
        framing.close_all((self.fd, self.event_fd))
        if self.session is not None and not forked:
            with contextlib.suppress(Unavailable):
                self.session.detach(self.channel)

    def usage(self) -> dict[str, int]:
        """Slots free, bytes used in the request arena, answers held, bytes copied."""
        return {
            "slots": self.mapping.slots,
            "slots_free": int(lib.mlos_slots_free(self.pointer)),
            "resting": sum(map(len, self.idle.values())),
            "abandoned": len(self._abandoned),
            "held": self.held,
            "request_bytes_used": check(lib.mlos_arena_used(self.pointer)),
            "copied_bytes": self.copied_bytes,
        }


_links: weakref.WeakSet[Link] = weakref.WeakSet()


def _disown_all() -> None:
    for link in list(_links):
        link._lock = threading.RLock()  # a thread of the parent may have held it
        link.freed = threading.Condition(link._lock)
        link.close(forked=True)


os.register_at_fork(after_in_child=_disown_all)
