# SPDX-License-Identifier: BUSL-1.1
"""Downloads of any size: parallel, resumable after any cut, verified while they stream.

The life of a download:

1. `TARGET.state` tells what an earlier process left of `TARGET` (state.py).
2. If it does not fit, one request tells the file's size and whether ranges work (ranges.py).
3. The file is cut into parts (plan.py); connections take them from the front (transfer.py),
   each through its own way along URLs and mirrors (sources.py).
4. The calling thread follows from the front and hashes the whole (hashes.py).
5. The digest decides. Where parts of an earlier download or of several sources went into a
   file that is wrong, it is fetched anew from one source at a time, so that the one that
   lies can be named, or another one's file is right.

A file without a stated digest is resumed only if the server can say that it is still the
same one (`If-Range`), and comes from one source.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from axon_client.net.attempt import Attempt, Downloaded, Mismatch, digest_of, state_of
from axon_client.net.faults import Transient, backoff, host_of, offline
from axon_client.net.job import Changed
from axon_client.net.options import Options, configured, with_mirrors
from axon_client.net.sources import Source, sources_of
from axon_client.progress import Progress
from mlos_core.errors import InvalidInput, MlosError, Unavailable

if TYPE_CHECKING:
    from axon_client.adapters.base import RemoteFile


def download(
    target: Path, file: RemoteFile, progress: Progress, options: Options | None = None
) -> Downloaded:
    """Fetch `file` into `target`, going on with what an earlier call left there.

    Not flushed to the disk: whoever gives the file its final name does that. On any error
    but a wrong digest `target` and its `.state` stay for the next call.

    Args:
        target: the partial file; nobody else may use it meanwhile.
        options: the configuration's if left out.

    Raises:
        IntegrityError: what came has not the digest or the size that was promised.
        ProtocolError: every source breaks the rules of HTTP; the first one's fault.
        NotFound, PermissionDenied, Unavailable: the first source says so.
        ConfigError: axon is offline.
    """
    chosen = options or configured()
    if not file.urls:
        raise InvalidInput(f"{file.path} has no place to come from")
    if chosen.offline:
        raise offline(file.urls[0])
    mirrors = with_mirrors(file.urls, chosen.mirrors)
    sources = sources_of(file.urls, dict(file.headers), mirrors)
    if not digest_of(file):
        return _first_that_works(target, file, sources, progress, chosen)
    try:
        return _unless_changed(target, file, sources, progress, chosen)
    except Mismatch as fault:
        _forget(target)
        return _each_alone(target, file, sources, progress, chosen, fault)


def _first_that_works(
    target: Path, file: RemoteFile, sources: list[Source], progress: Progress, options: Options
) -> Downloaded:
    """Without a digest, nobody can tell whether two sources have the same file."""
    errors: list[MlosError] = []
    for source in sources:
        try:
            return _unless_changed(target, file, [source], progress, options)
        except MlosError as error:
            errors.append(error)
    raise errors[0]


def _each_alone(
    target: Path, file: RemoteFile, sources: list[Source], progress: Progress, options: Options,
    fault: Mismatch,
) -> Downloaded:  # fmt: skip
    """Find the source that has the file, after a mixture turned out to be wrong."""
    if len(sources) == 1:
        sources = [] if fault.culprit else sources
    for source in sources:
        if source is fault.culprit:
            continue
        try:
            return _unless_changed(target, file, [source], progress, options)
        except Mismatch:
            _forget(target)
        except MlosError:
            continue
    raise fault.error from fault


def _forget(target: Path) -> None:
    target.unlink(missing_ok=True)
    state_of(target).unlink(missing_ok=True)


def _unless_changed(
    target: Path, file: RemoteFile, sources: list[Source], progress: Progress, options: Options
) -> Downloaded:
    """Start anew when the file at the source changes meanwhile, a few times."""
    for number in range(1, options.attempts + 1):
        try:
            with Attempt(target, file, sources, progress, options) as attempt:
                return attempt.run()
        except Changed as fault:
            _forget(target)
            if number == options.attempts:
                raise _restless(file, sources[0], fault) from fault
            options.clock.sleep(backoff(number, options.clock.chance()))
    raise AssertionError("the last attempt returns or raises")


def _restless(file: RemoteFile, source: Source, fault: Changed) -> MlosError:
    if isinstance(fault.__cause__, Transient):
        return fault.__cause__.error
    return Unavailable(
        f"{file.path} at {host_of(source.url)} changes while it is fetched", hint="try again later"
    )
