# SPDX-License-Identifier: BUSL-1.1
"""What a plugin says to models and options that are wrong: `LoadFailed`, and why."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from mlos_core.conformance.outcome import Failed, Skipped
from mlos_core.conformance.subject import Subject
from mlos_core.errors import MlosError

_OPTION: Final = "mlos_no_such_option"
_REFUSALS: Final = frozenset({"load_failed", "invalid_input", "not_found", "unsupported"})
_CRASH: Final = re.compile(r"worker .*ended ")
_MOST: Final = 1 << 30
_GARBAGE: Final = bytes((i * 73 + 41) % 256 for i in range(256))


def an_unknown_option_is_refused_by_name(subject: Subject) -> None:
    """And told what there is instead."""
    error = _refusal(subject, options={**subject.target.options, _OPTION: 1})
    if error is None:
        raise Failed(f"the option {_OPTION!r} is taken without a word")
    if _OPTION not in str(error):
        raise Failed(f"the error does not name the option: {error}")
    if not error.hint:
        raise Failed(f"the error has no hint: {error}")


def an_unknown_device_is_refused(subject: Subject) -> None:
    """By the plugin itself; never a silent CPU."""
    path = str(subject.needs_path())
    report = subject.look(refuses=True, path=path, device="nowhere:7")
    if not report.refusal:
        raise Failed("the device nowhere:7 is taken without a word")


def an_empty_folder_is_refused(subject: Subject) -> None:
    """There is nothing to load in it."""
    folder = _folder(subject)
    if _refusal(subject, path=folder) is None:
        raise Failed("a model was loaded from nothing")


def a_truncated_file_does_no_harm(subject: Subject) -> str:
    """Half of it is refused, or is still a model; the worker does not crash or hang."""
    broken = _broken(subject, lambda data: data[: len(data) // 2])
    return "what is left of it still loads" if _refusal(subject, path=broken) is None else ""


def a_file_of_garbage_is_refused(subject: Subject) -> None:
    """As long as the real one."""
    broken = _broken(subject, lambda data: (_GARBAGE * (len(data) // 256 + 1))[: len(data)])
    if _refusal(subject, path=broken) is None:
        raise Failed("garbage is loaded as a model")


def the_beginning_of_a_file_followed_by_garbage_does_no_harm(subject: Subject) -> str:
    """What looks right at first is refused, or is still a model."""
    broken = _broken(subject, lambda data: data[: len(data) // 2] + b"\xa5" * (len(data) // 2))
    return "it still loads" if _refusal(subject, path=broken) is None else ""


def _refusal(subject: Subject, **params: Any) -> MlosError | None:
    """The error of a registration; None where it works.

    Raises:
        Failed: the worker crashed or hung instead of saying what is wrong.
    """
    try:
        with subject.serving(**params):
            return None
    except MlosError as err:
        if err.code not in _REFUSALS or _CRASH.search(err.message):
            raise Failed(f"no refusal, but {err.code}: {err}") from None
        return err


def _folder(subject: Subject) -> Path:
    return Path(tempfile.mkdtemp(prefix="broken-", dir=subject.daemon.folder))


def _broken(subject: Subject, change: Callable[[bytes], bytes]) -> Path:
    """A copy of the model whose largest file is changed."""
    path = subject.needs_path()
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    if not files:
        raise Skipped("the model has no file")
    largest = max(files, key=lambda file: file.stat().st_size)
    if sum(file.stat().st_size for file in files) > _MOST:
        raise Skipped("the model is too large to be copied")
    folder = _folder(subject)
    copy = folder / path.name
    if path.is_dir():
        shutil.copytree(path, copy)
        victim = copy / largest.relative_to(path)
    else:
        victim = copy
    victim.write_bytes(change(largest.read_bytes()))
    return copy
