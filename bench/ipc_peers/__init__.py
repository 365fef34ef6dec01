# SPDX-License-Identifier: BUSL-1.1
"""The contestants of `bench/ipc.py` by name, each a class in a module of this package.

Only the process that runs a contestant imports its module, so a library that is missing
costs that one contestant and nobody else.
"""

from __future__ import annotations

from typing import NamedTuple


class Entry(NamedTuple):
    """Where a contestant lives, and whether it can take a payload that already lies in
    shared memory (the `-inplace` cases)."""

    module: str
    cls: str
    in_place: bool = False


CONTESTANTS: dict[str, Entry] = {
    "bare-ring": Entry("bare_ring", "BareRing", in_place=True),
    "bare-ring-block": Entry("bare_ring", "BareRingBlock", in_place=True),
    "mlos-prepared": Entry("mlos", "Prepared", in_place=True),
    "mlos-infer": Entry("mlos", "Infer", in_place=True),
    "mlos-spin": Entry("mlos", "Spin"),
    "mlos-block": Entry("mlos", "Block"),
    "mlos-async": Entry("mlos", "Async"),
    "iceoryx2-poll": Entry("iceoryx2_rpc", "Poll", in_place=True),
    "iceoryx2-block": Entry("iceoryx2_rpc", "Block", in_place=True),
    "pyzmq": Entry("zeromq", "ReqRep"),
    "mp-pipe": Entry("pipe", "Pipe"),
    "grpcio-uds": Entry("grpc_uds", "Grpc"),
    "http-uds": Entry("http_uds", "Http"),
}
