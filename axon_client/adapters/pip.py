# SPDX-License-Identifier: BUSL-1.1
"""pip as a subprocess: its configuration, its indexes, its credentials, its cache.

Nothing here reads pip's configuration or names an index: whatever `pip install` would
reach on this machine is what is reached.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from axon_client.errors import IntegrityError
from mlos_core.errors import (
    ConfigError,
    DeadlineExceeded,
    MlosError,
    NotFound,
    ProtocolError,
    Unavailable,
)

RESOLVE_TIMEOUT_S = 300.0
DOWNLOAD_TIMEOUT_S = 6 * 3600.0
WHEEL_ONLY = ("--no-deps", "--only-binary=:all:")
_RAW_PROGRESS_SINCE = (24, 1)
_PROGRESS = re.compile(rb"^Progress (\d+) of (\d+)\s*$")
FINDER = str(Path(__file__).with_name("_pip_finder.py"))
_LISTED = re.compile(rb"^Available versions: (.+)$", re.MULTILINE)
_VERSIONS = re.compile(r"\(from versions: ([^)]*)\)")
_UNREACHABLE = re.compile(r"(Retrying \(Retry|ConnectionError|NewConnectionError|Could not fetch)")

Watch = Callable[[int, int], None]
Fetch = Callable[[str, Path, Watch], Path]
"""Fetches the archive of `name==version` into a folder."""


class Archive(msgspec.Struct, frozen=True):
    """An archive that pip would install: where it is, and its digest."""

    name: str
    version: str
    url: str
    sha256: str


class Offer(msgspec.Struct, frozen=True):
    """One version on the index; `yanked` says why nobody should choose it any more."""

    version: str
    yanked: str = ""


class _Offers(msgspec.Struct):
    versions: list[Offer]


def find_wheel(requirement: str) -> Archive:
    """The wheel that pip would choose for `requirement` on this machine.

    Asked of pip's finder: pip's own report fetches the whole wheel where the index does not
    have its metadata apart. The report is for versions of pip whose finder is another one.

    Raises:
        NotFound: no index has a wheel that fits.
        Unavailable: no index can be reached, or pip is missing.
    """
    found = ask_finder("wheel", requirement)
    return found if found else _from_report(requirement)


def ask_finder(kind: str, requirement: str) -> Archive | None:
    """The `wheel` or `sdist` that pip's finder chooses; None if it does not work as known.

    Raises:
        NotFound, Unavailable: as `find_wheel`.
    """
    name, _, version = requirement.partition("==")
    pip_version()
    output = run_python([FINDER, "find", kind, name, version], timeout_s=RESOLVE_TIMEOUT_S)
    try:
        return msgspec.json.decode(output, type=Archive)
    except msgspec.DecodeError:
        return None


def _from_report(requirement: str) -> Archive:
    output = run(
        "install", "--dry-run", "--ignore-installed", "--quiet", "--report", "-", *WHEEL_ONLY,
        "--", requirement, timeout_s=RESOLVE_TIMEOUT_S,
    )  # fmt: skip
    try:
        report = msgspec.json.decode(output)
        item = report["install"][0]
        return Archive(
            name=item["metadata"]["name"],
            version=item["metadata"]["version"],
            url=item["download_info"]["url"],
            sha256=_digest(item["download_info"].get("archive_info", {})),
        )
    except (msgspec.DecodeError, LookupError, TypeError) as error:
        raise ProtocolError(
            f"pip's report on {requirement} cannot be read: {error}",
            hint="update pip: python -m pip install --upgrade pip",
        ) from error


def list_versions(name: str) -> list[Offer]:
    """The versions that have a wheel for this machine; where none has, those with a source.

    Raises:
        NotFound: no index has any.
        Unavailable: no index can be reached, or pip is missing.
    """
    pip_version()
    try:
        output = run_python([FINDER, "list", "wheel", name, ""], timeout_s=RESOLVE_TIMEOUT_S)
    except NotFound:
        output = run_python([FINDER, "list", "sdist", name, ""], timeout_s=RESOLVE_TIMEOUT_S)
    try:
        return msgspec.json.decode(output, type=_Offers).versions
    except msgspec.DecodeError:
        return _from_index_versions(name)


def _from_index_versions(name: str) -> list[Offer]:
    """What pip itself lists, which does not say what is yanked."""
    try:
        output = _index_versions(name, "--only-binary=:all:")
    except NotFound:
        output = _index_versions(name)
    found = _LISTED.search(output)
    if not found:
        raise ProtocolError(
            f"pip's list of the versions of {name} cannot be read",
            hint="update pip: python -m pip install --upgrade pip",
        )
    return [Offer(version.strip()) for version in found[1].decode(errors="replace").split(",")]


def _index_versions(name: str, *options: str) -> bytes:
    arguments = ("index", "versions", "--pre", *options, "--", name)
    try:
        return run(*arguments, timeout_s=RESOLVE_TIMEOUT_S)
    except Unavailable as error:
        if "No matching distribution found" not in error.message or "reached" in error.message:
            raise
        raise NotFound(f"no index has {name}", hint="check the spelling") from error


def _digest(archive: dict[str, Any]) -> str:
    digest = archive.get("hashes", {}).get("sha256", "")
    if not digest and str(archive.get("hash", "")).startswith("sha256="):
        digest = archive["hash"].removeprefix("sha256=")
    return str(digest)


def download_wheel(requirement: str, folder: Path, watch: Watch) -> Path:
    """Fetch the wheel for `requirement` into the empty `folder`."""
    bar = "raw" if pip_version() >= _RAW_PROGRESS_SINCE else "off"
    run(
        "download", "--progress-bar", bar, "--dest", str(folder), *WHEEL_ONLY, "--", requirement,
        timeout_s=DOWNLOAD_TIMEOUT_S, watch=watch,
    )  # fmt: skip
    found = list(folder.iterdir())
    if len(found) != 1:
        raise ProtocolError(f"pip left {len(found)} files for {requirement} instead of one")
    return found[0]


def pip_version() -> tuple[int, ...]:
    """The version of this interpreter's pip.

    Raises:
        Unavailable: it has none.
    """
    try:
        version = importlib.metadata.version("pip")
    except importlib.metadata.PackageNotFoundError as error:
        raise Unavailable(
            f"{sys.executable} has no pip, which axon fetches packages with",
            hint="add it with: python -m ensurepip",
        ) from error
    return tuple(int(part) for part in re.findall(r"\d+", version)[:2])


def run(*arguments: str, timeout_s: float, watch: Watch | None = None) -> bytes:
    """Run `python -m pip` and give its standard output."""
    pip_version()
    return run_python(["-m", "pip", *arguments], timeout_s=timeout_s, watch=watch)


def run_python(arguments: Sequence[str], *, timeout_s: float, watch: Watch | None = None) -> bytes:
    """Run this interpreter on pip's behalf and give its standard output.

    Raises:
        NotFound, Unavailable, DeadlineExceeded: what pip's messages say went wrong.
    """
    _check_online()
    # -P keeps the current folder off the module path: a pip.py there must not run.
    command = [sys.executable, "-P", *arguments]
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, env=_env()
        )
        with process, _deadline(process, timeout_s) as expired:
            output = _read(process, watch)
        errors.seek(0)
        if expired.is_set():
            raise DeadlineExceeded(f"pip did not finish within {timeout_s:g} s")
        if process.returncode != 0:
            raise explain(errors.read().decode(errors="replace"))
    return output


def _check_online() -> None:
    from axon_client import config

    if config.load().offline:
        raise ConfigError(
            "the package index would have to be asked, and axon is offline",
            hint="leave out --offline, or unset AXON_OFFLINE and 'offline' in the configuration",
        )


def _env() -> dict[str, str]:
    return os.environ | {
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_NO_INPUT": "1",
        "PIP_REQUIRE_VIRTUALENV": "0",
        "PYTHONUNBUFFERED": "1",
    }


@contextmanager
def _deadline(process: subprocess.Popen[bytes], timeout_s: float) -> Iterator[threading.Event]:
    """Kill `process` after `timeout_s`, or at once when the block is left by an exception."""
    expired = threading.Event()

    def expire() -> None:
        expired.set()
        process.kill()

    timer = threading.Timer(timeout_s, expire)
    timer.daemon = True
    timer.start()
    try:
        yield expired
        process.wait()
    except BaseException:
        process.kill()
        raise
    finally:
        timer.cancel()


def _read(process: subprocess.Popen[bytes], watch: Watch | None) -> bytes:
    assert process.stdout is not None
    lines: list[bytes] = []
    for line in process.stdout:
        step = _PROGRESS.match(line)
        if step and watch:
            watch(int(step[1]), int(step[2]))
        elif not step:
            lines.append(line)
    return b"".join(lines)


def explain(errors: str) -> MlosError:
    """The error that pip's messages amount to."""
    lines = [line.partition("ERROR: ")[2] for line in errors.splitlines() if "ERROR: " in line]
    reason = lines[-1] if lines else (errors.strip().splitlines() or ["pip failed"])[-1]
    if "DO NOT MATCH THE HASHES" in errors:
        return IntegrityError(
            "the archive does not have the digest that the index states",
            hint="do not use it; try again, and tell the index's owner if it stays",
        )
    versions = _VERSIONS.search(errors)
    if _UNREACHABLE.search(errors):
        return Unavailable(
            f"the package index cannot be reached: {reason}", hint="check the network"
        )
    if reason.startswith("No source archive found"):
        return NotFound(reason)
    if versions and versions[1] != "none":
        newest = ", ".join(versions[1].split(", ")[-8:])
        return NotFound(reason, hint=f"newest versions with a wheel for this machine: {newest}")
    if versions:
        return NotFound(reason, hint="check the spelling")
    return Unavailable(f"pip failed: {reason}", hint="'python -m pip download' shows the details")
