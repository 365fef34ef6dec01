# SPDX-License-Identifier: BUSL-1.1
"""What `docker login` kept: config.json, and the helpers that it names.

A helper is a program that the user installed and named there; it is run only if the search
path has it, and told nothing but the registry's host.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from axon_client.credentials import Credential
from mlos_core.errors import ConfigError

_MOST: Final = 1 << 20
_HELPER_S: Final = 20
_HELPER: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_HUB: Final = "https://index.docker.io/v1/"


class _Entry(msgspec.Struct, frozen=True):
    auth: str = ""
    username: str = ""
    password: str = ""


class _File(msgspec.Struct, frozen=True, rename={"helpers": "credHelpers", "store": "credsStore"}):
    auths: dict[str, _Entry] = {}
    helpers: dict[str, str] = {}
    store: str = ""


class _Answer(msgspec.Struct, frozen=True, rename="pascal"):
    username: str = ""
    secret: str = ""


def find(host: str, environ: Mapping[str, str] = os.environ) -> Credential | None:
    """What docker would show `host`, with its port if it has one; None if that is nothing.

    Raises:
        ConfigError: the file is damaged.
    """
    folder = environ.get("DOCKER_CONFIG")
    path = (Path(folder) if folder else Path.home() / ".docker") / "config.json"
    try:
        with path.open("rb") as file:
            kept = msgspec.json.decode(file.read(_MOST), type=_File)
    except OSError:
        return None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is damaged: {error}") from error
    names = [_HUB, "docker.io"] if host == "registry-1.docker.io" else []
    for name in (host, f"https://{host}", f"https://{host}/", *names):
        found = _ask(kept.helpers.get(name, ""), name) or _decode(kept.auths.get(name))
        if found:
            return found
    return _ask(kept.store, names[0] if names else host)


def _decode(entry: _Entry | None) -> Credential | None:
    if entry is None:
        return None
    user, password = entry.username, entry.password
    if entry.auth:
        try:
            text = base64.b64decode(entry.auth, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            return None
        user, _, password = text.partition(":")
    return Credential(password.rstrip("\0"), user) if password else None


def _ask(helper: str, name: str) -> Credential | None:
    program = shutil.which(f"docker-credential-{helper}") if _HELPER.fullmatch(helper) else None
    if program is None:
        return None
    try:
        done = subprocess.run(
            [program, "get"],
            input=name.encode(),
            capture_output=True,
            timeout=_HELPER_S,
            check=True,
        )
        answer = msgspec.json.decode(done.stdout[:_MOST], type=_Answer)
    except (OSError, subprocess.SubprocessError, msgspec.DecodeError, UnicodeDecodeError):
        return None  # it knows nothing of this host
    return Credential(answer.secret, answer.username) if answer.secret else None
