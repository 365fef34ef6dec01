# SPDX-License-Identifier: BUSL-1.1
"""Tokens of registries, one for each host: `credentials.json` in the store's folder, 0600.

Guarantees: a token goes to the scheme, host and port that it was given for and to no
other; `AXON_TOKEN` goes to the default registry's only. Nothing here prints one.
"""

from __future__ import annotations

import base64
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import msgspec

from axon_client import config
from axon_client.config_file import exclusive
from axon_client.files import replacing
from mlos_core.errors import ConfigError, InvalidInput

FILE_NAME: Final = "credentials.json"
VARIABLE: Final = "AXON_TOKEN"
_PORTS: Final = {"http": 80, "https": 443}
_LOOPBACK: Final = {"localhost", "127.0.0.1", "::1"}


class Credential(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a host is shown. With `username` the token is a password (OCI registries)."""

    token: str
    username: str = ""

    def __repr__(self) -> str:
        return f"Credential(username={self.username!r})"

    @property
    def headers(self) -> dict[str, str]:
        """The header of a request."""
        if not self.username:
            return {"Authorization": f"Bearer {self.token}"}
        pair = base64.b64encode(f"{self.username}:{self.token}".encode()).decode()
        return {"Authorization": f"Basic {pair}"}


def origin(url: str) -> str:
    """`scheme://host:port` of a URL: what a credential belongs to. `oci:` means https.

    Raises:
        InvalidInput: it names no host.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise InvalidInput(f"{url!r} is no URL: {error}") from error
    scheme = "https" if parts.scheme == "oci" else parts.scheme
    if scheme not in _PORTS or not host:
        raise InvalidInput(f"{url!r} is no URL of a registry", hint="write https://HOST[:PORT]")
    host = f"[{host}]" if ":" in host else host
    return f"{scheme}://{host}:{port or _PORTS[scheme]}"


def is_private(url: str) -> bool:
    """Whether nobody between here and the host can read what is sent to it."""
    parts = urlsplit(url)
    return parts.scheme != "http" or parts.hostname in _LOOPBACK


def find(
    url: str, home: Path | None = None, environ: Mapping[str, str] = os.environ
) -> Credential | None:
    """What the host of `url` is to be shown; None if there is nothing.

    Raises:
        ConfigError: the file is damaged.
    """
    home = home or config.default_home()
    place = origin(url)
    if environ.get(VARIABLE):
        settings = config.load(home, environ)
        registry = settings.registries.get(settings.default_registry)
        if registry and origin(registry.url) == place:
            return Credential(environ[VARIABLE])
    return _read(home / FILE_NAME).get(place)


def headers_for(
    url: str, home: Path | None = None, environ: Mapping[str, str] = os.environ
) -> dict[str, str]:
    """The headers that go with a request for `url`; empty for a host without credentials."""
    found = find(url, home, environ)
    return found.headers if found else {}


def keep(url: str, credential: Credential, home: Path | None = None) -> None:
    """Keep what the host of `url` is to be shown."""
    check(credential)
    _change(home or config.default_home(), origin(url), credential)


def check(credential: Credential) -> None:
    """Make sure that it can be a header's value.

    Raises:
        InvalidInput: it is empty, or has spaces, line ends or characters beyond ASCII.
    """
    text = credential.token + credential.username
    if not credential.token or not text.isascii() or not text.isprintable() or " " in text:
        raise InvalidInput("a token is one word of printable ASCII characters")


def forget(url: str, home: Path | None = None) -> bool:
    """Forget the credential of the host of `url`; False if there was none."""
    return _change(home or config.default_home(), origin(url), None)


def _change(home: Path, place: str, credential: Credential | None) -> bool:
    path = home / FILE_NAME
    with exclusive(home):
        kept = _read(path)
        there = kept.pop(place, None) is not None
        if credential:
            kept[place] = credential
        with replacing(path, 0o600) as file:
            file.write(msgspec.json.format(msgspec.json.encode(kept)) + b"\n")
    return there


def _read(path: Path) -> dict[str, Credential]:
    try:
        with path.open("rb") as file:
            if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
                path.chmod(0o600)
            return msgspec.json.decode(file.read(config.MAX_BYTES), type=dict[str, Credential])
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(
            f"{path} is damaged", hint="remove it and log in again: axon registry login NAME"
        ) from error
