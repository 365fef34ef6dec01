# SPDX-License-Identifier: BUSL-1.1
"""Find an archive on the index without fetching or building it. Run as a script, apart.

    python _pip_finder.py find wheel|sdist NAME VERSION     an empty version is any
    python _pip_finder.py list wheel|sdist NAME ''
    python _pip_finder.py fetch sdist NAME VERSION FILE

Every public pip command that touches a source archive asks its build backend for metadata,
which runs the package's own code; and for a wheel's metadata it may fetch the whole wheel. So
this script takes pip's finder and session, which carry its whole configuration, and stops
there. Those are pip's internals: if they change this says so, and nothing else fails. It
prints one line of JSON.
"""

from __future__ import annotations

import json
import logging
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

CHUNK = 1 << 18
UNREACHABLE = ("connection error", "timed out", "confirming the ssl certificate")
OTHER = {"wheel": "--only-binary=:all:", "sdist": "--no-binary=:all:"}


def main(arguments: list[str]) -> int:
    """Run one of the three commands."""
    action, kind, name, version, *rest = arguments
    _listen()
    try:
        session, found, there = _find(kind, name, version)
    except (ImportError, AttributeError, TypeError) as error:
        print(json.dumps({"unknown": f"{type(error).__name__}: {error}"}))
        return 0
    if found is None and (action != "list" or not there):
        _explain(kind, name, version, list(there))
        return 1
    if action == "list":
        offers = [{"version": one, "yanked": reason} for one, reason in there.items()]
        print(json.dumps({"versions": offers}))
        return 0
    if action == "fetch":
        _fetch(session, found.link.url_without_fragment, Path(rest[0]))
    hashes = getattr(found.link, "_hashes", None) or {}
    digest = found.link.hash if found.link.hash_name == "sha256" else hashes.get("sha256", "")
    redact = import_module("pip._internal.utils.misc").redact_auth_from_url
    url = redact(found.link.url_without_fragment)
    answer = {"name": name, "version": str(found.version), "url": url, "sha256": digest or ""}
    print(json.dumps(answer))
    return 0


class _Unreachable(logging.Handler):
    """Says aloud that an index cannot be reached; to pip's finder that is as if it were empty."""

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if message.startswith("Could not fetch") and any(sign in message for sign in UNREACHABLE):
            print(f"WARNING: {message}", file=sys.stderr)


def _listen() -> None:
    logger = logging.getLogger("pip._internal.index.collector")
    logger.setLevel(logging.DEBUG)
    logger.addHandler(_Unreachable())


def _find(kind: str, name: str, version: str) -> tuple[Any, Any, dict[str, str]]:
    command = import_module("pip._internal.commands.download").DownloadCommand("download", "axon")
    specifiers = import_module("pip._vendor.packaging.specifiers")
    options, _ = command.parse_args(["--no-deps", OTHER[kind], name])
    # The command keeps temporary folders and its session in this context.
    with command.main_context():
        session = command.get_default_session(options)
        finder = command._build_package_finder(options, session)
        wanted = specifiers.SpecifierSet(f"=={version}" if version else "")
        best = finder.find_best_candidate(name, wanted).best_candidate
        return session, best, _offers(finder.find_all_candidates(name))


def _offers(candidates: list[Any]) -> dict[str, str]:
    """Each version, with why it is yanked; empty if one of its archives is not."""
    offers: dict[str, str] = {}
    for found in candidates:
        reason = (found.link.yanked_reason or "yanked") if found.link.is_yanked else ""
        version = str(found.version)
        offers[version] = reason and offers.get(version, reason)
    return offers


def _explain(kind: str, name: str, version: str, there: list[str]) -> None:
    """As pip says it, so that its messages are read in one way."""
    if kind == "sdist":
        print(f"ERROR: No source archive found for {name}", file=sys.stderr)
        return
    wanted = f"{name}=={version}" if version else name
    versions = ", ".join(there) or "none"
    said = f"Could not find a version that satisfies {wanted} (from versions: {versions})"
    print(f"ERROR: {said}", file=sys.stderr)
    print(f"ERROR: No matching distribution found for {wanted}", file=sys.stderr)


def _fetch(session: Any, url: str, target: Path) -> None:
    answer = session.get(url, stream=True, headers={"Accept-Encoding": "identity"})
    answer.raise_for_status()
    total, done = int(answer.headers.get("Content-Length") or 0), 0
    with target.open("xb") as file:
        for block in answer.iter_content(CHUNK):
            done += file.write(block)
            print(f"Progress {done} of {total}", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
