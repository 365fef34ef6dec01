# SPDX-License-Identifier: BUSL-1.1
"""Fetch a source archive without building it. Run as a script, in a process of its own.

    python _pip_sdist.py find NAME [VERSION]
    python _pip_sdist.py fetch NAME VERSION FILE

Every public pip command that touches a source archive asks its build backend for metadata,
which runs the package's own code. So this script takes pip's finder and session, which
carry its whole configuration, and stops before the build. Those are pip's internals: if
they change this fails, and nothing else does. It prints one line of JSON.
"""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

CHUNK = 1 << 18


def main(arguments: list[str]) -> int:
    """Run one of the two commands."""
    action, name, *rest = arguments
    session, found = _find(name, rest[0] if rest else "")
    if found is None:
        print(f"ERROR: No source archive found for {name}", file=sys.stderr)
        return 1
    if action == "fetch":
        _fetch(session, found.link.url_without_fragment, Path(rest[1]))
    hashes = getattr(found.link, "_hashes", None) or {}
    digest = found.link.hash if found.link.hash_name == "sha256" else hashes.get("sha256", "")
    redact = import_module("pip._internal.utils.misc").redact_auth_from_url
    url = redact(found.link.url_without_fragment)
    print(json.dumps({"version": str(found.version), "url": url, "sha256": digest or ""}))
    return 0


def _find(name: str, version: str) -> tuple[Any, Any]:
    command = import_module("pip._internal.commands.download").DownloadCommand("download", "axon")
    specifiers = import_module("pip._vendor.packaging.specifiers")
    options, _ = command.parse_args(["--no-deps", "--no-binary=:all:", name])
    # The command keeps temporary folders and its session in this context.
    with command.main_context():
        session = command.get_default_session(options)
        finder = command._build_package_finder(options, session)
        wanted = specifiers.SpecifierSet(f"=={version}" if version else "")
        return session, finder.find_best_candidate(name, wanted).best_candidate


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
