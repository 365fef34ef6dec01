# SPDX-License-Identifier: BUSL-1.1
"""What can be said of a plugin before it serves anything."""

from __future__ import annotations

import tempfile
from pathlib import Path

from mlos_core.conformance.outcome import Failed, Skipped
from mlos_core.conformance.subject import Subject
from mlos_core.errors import MlosError
from mlos_core.types import BYTES, DTYPES, MAX_RANK, Signature, TensorSpec


def it_imports_and_keeps_the_contract(subject: Subject) -> str:
    """Entry point, class, name, version of the interface, formats."""
    folder = Path(tempfile.mkdtemp(prefix="example-", dir=subject.daemon.folder))
    subject.report = report = subject.look(example="" if subject.path else str(folder))
    if report.problems:
        raise Failed("; ".join(report.problems))
    if report.example:
        subject.path = Path(report.example)
    return f"{report.distribution} {report.version}".strip()


def its_import_starts_no_threads(subject: Subject) -> None:
    """They would not survive the fork of a worker."""
    if subject.report.threads:
        raise Failed("threads run: " + ", ".join(subject.report.threads))
    if subject.report.problems:
        raise Skipped("not tried: see the first check")


def a_host_of_the_daemon_imports_it(subject: Subject) -> None:
    """As it will when the first model is registered."""
    nothing = Path(tempfile.mkdtemp(prefix="nothing-", dir=subject.daemon.folder))
    try:
        with subject.serving(path=nothing):
            pass
    except MlosError as err:
        if err.code in ("plugin_broken", "not_found"):
            raise Failed(str(err)) from None
    # Its framework may have made caches when it was imported.
    subject.at_first = subject.temporary_files()


def it_brings_an_example_that_lies_in_its_folder(subject: Subject) -> None:
    """`example()` gives everybody a model to try."""
    if subject.target.model is not None:
        raise Skipped("a model was named")
    path = subject.needs_path()
    if not path.exists() or not subject.report.written:
        raise Failed(f"example() names {path}, which it did not write")


def the_model_loads(subject: Subject) -> str:
    """And warms up, and is ready."""
    subject.needs_path()
    subject.serve()
    return subject.signature.describe()


def its_signature_is_sound(subject: Subject) -> None:
    """Names, dtypes, sizes, batch."""
    signature = subject.signature
    for side in (signature.inputs, signature.outputs):
        names = [spec.name for spec in side]
        if len(set(names)) < len(names) or not all(names):
            raise Failed(f"the names {names} are not each another one")
    for spec in (*signature.inputs, *signature.outputs):
        _check(spec, signature)
    if not signature.outputs and not signature.streaming:
        raise Failed("it has no outputs and no stream")


def _check(spec: TensorSpec, signature: Signature) -> None:
    if spec.dtype not in DTYPES and spec.dtype != BYTES:
        raise Failed(f"{spec.name!r} has the unknown dtype {spec.dtype!r}")
    if len(spec.shape) > MAX_RANK or any(dim < -1 for dim in spec.shape):
        raise Failed(f"{spec.name!r} has the impossible shape {list(spec.shape)}")
    if signature.batched and (not spec.shape or spec.shape[0] != -1):
        raise Failed(f"it is batched, but dimension 0 of {spec.name!r} is not open")
