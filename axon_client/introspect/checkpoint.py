# SPDX-License-Identifier: BUSL-1.1
"""Pickled checkpoints of PyTorch: how many weights there are, without opening the pickle."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from axon_client.introspect import pickles
from axon_client.introspect.header import Header, Tally
from axon_client.introspect.mapped import head_of
from axon_client.introspect.zipped import Members, members_of
from mlos_core.errors import LoadFailed

ZIP: Final = b"PK\x03\x04"
_MOST_PICKLE: Final = 16 << 20
_RUNS_CODE: Final = "a pickle says no more without running the code in it"


def read_checkpoint(path: Path) -> Header:
    """Read what can be known of a pickled checkpoint.

    Raises:
        LoadFailed: it is a damaged archive.
    """
    if not head_of(path).startswith(ZIP):
        return Header(unknown=(_RUNS_CODE,))
    with members_of(path, "a checkpoint") as members:
        tally = weigh(look_into(members, _main(members), path.name), path.name)
    return Header(
        parameters=tally.parameters,
        dtypes=tally.dtypes,
        weight_bytes=tally.bytes,
        unknown=(_RUNS_CODE,),
    )


def _main(members: Members) -> str:
    for name in members.sizes:
        if name == "data.pkl" or name.endswith("/data.pkl"):
            return name
    raise LoadFailed("the archive holds no checkpoint: it has no data.pkl")


def look_into(members: Members, name: str, title: str) -> pickles.Contents:
    """What the pickle in a member would build.

    Raises:
        LoadFailed: it is no sound pickle.
    """
    try:
        return pickles.look(members.read(name, _MOST_PICKLE))
    except ValueError as error:
        raise LoadFailed(f"{title}: {name}: {error}") from error


def weigh(contents: pickles.Contents, title: str) -> Tally:
    """The storages of tensors, which views may share, added up.

    Raises:
        LoadFailed: no memory holds them.
    """
    tally = Tally()
    try:
        for dtype, elements in contents.storages.values():
            tally.count(dtype, elements)
    except ValueError as error:
        raise LoadFailed(f"{title}: {error}") from error
    return tally
