# SPDX-License-Identifier: BUSL-1.1
"""The compiled engine, and its statuses as exceptions.

`MLOS_SYNAPSE_MODULE` names another build of the extension (tests use sanitized ones).
"""

from __future__ import annotations

import hashlib
import importlib
import os
from pathlib import Path
from typing import Any, Final

from mlos_core.errors import InvalidInput, LoadFailed, MlosError, OutOfMemory, Unsupported

_module = importlib.import_module(
    os.environ.get("MLOS_SYNAPSE_MODULE", "mlos_core.synapse._synapse")
)
ffi: Final[Any] = _module.ffi
lib: Final[Any] = _module.lib

ISAS: Final[dict[str, int]] = {
    "reference": lib.SYN_REFERENCE,
    "avx2": lib.SYN_AVX2,
    "avx512": lib.SYN_AVX512,
    "amx": lib.SYN_AMX,
}
_KINDS: Final[dict[int, type[MlosError]]] = {
    lib.SYN_E_ARGUMENT: InvalidInput,
    lib.SYN_E_FORMAT: LoadFailed,
    lib.SYN_E_UNSUPPORTED: Unsupported,
    lib.SYN_E_MEMORY: OutOfMemory,
}


def build_id() -> bytes:
    """A hash of the compiled engine: what one build packed is for that build."""
    return hashlib.sha256(Path(_module.__file__ or "").read_bytes()).digest()


def check(status: int) -> int:
    """`status` if it is a result.

    Raises:
        MlosError: it is an error; the kind says whose.
    """
    if status >= 0:
        return status
    message = ffi.string(lib.syn_error()).decode(errors="replace")
    raise _KINDS.get(status, MlosError)(message)


def choose_isa(name: str = "") -> int:
    """The instruction set called `name`, or what `SYNAPSE_ISA` says, or the best one here.

    Raises:
        InvalidInput: there is no such set.
        Unsupported: this machine does not have it.
    """
    name = name or os.environ.get("SYNAPSE_ISA", "")
    if not name:
        return int(lib.syn_isa_best())
    if name not in ISAS:
        raise InvalidInput(
            f"the instruction set {name!r} is unknown", hint="use one of " + ", ".join(ISAS)
        )
    if not lib.syn_isa_available(ISAS[name]):
        usable = [known for known, isa in ISAS.items() if lib.syn_isa_available(isa)]
        raise Unsupported(f"this machine does not have {name}", hint="it has " + ", ".join(usable))
    return ISAS[name]
