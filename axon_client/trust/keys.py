# SPDX-License-Identifier: BUSL-1.1
"""One's own keys: `HOME/keys/<name>.pem`, readable by their owner alone.

A key may have a passphrase; `AXON_KEY_PASSPHRASE` gives it where nobody can be asked.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from axon_client.config import default_home
from axon_client.trust.encoding import key_bytes, key_text
from mlos_core.errors import AlreadyExists, InvalidInput, NotFound, PermissionDenied

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

DEFAULT: Final = "default"
VARIABLE: Final = "AXON_KEY_PASSPHRASE"
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_MOST_BYTES: Final = 1 << 14
Ask = Callable[[], str]
"""Asks somebody for the passphrase of a key."""


class SigningKey:
    """A private key. It never shows itself."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key

    def __repr__(self) -> str:
        return f"SigningKey({self.public})"

    @property
    def public(self) -> str:
        """The public half, `ed25519:<base64>`: what others trust."""
        return key_text(self._key.public_key().public_bytes_raw())

    def sign(self, message: bytes) -> bytes:
        """The 64 bytes of the signature."""
        return self._key.sign(message)


def folder(home: Path | None = None) -> Path:
    """Where the keys are."""
    return (home or default_home()) / "keys"


def generate(name: str = DEFAULT, home: Path | None = None, passphrase: str = "") -> SigningKey:
    """Make a key pair and keep it under `name`.

    Raises:
        AlreadyExists: there is one of that name, which is never overwritten.
        InvalidInput: the name is not allowed.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    path = _path(name, home)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    key = Ed25519PrivateKey.generate()
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise AlreadyExists(
            f"there is a key {name!r} already", hint=f"give --name, or move {path} away"
        ) from None
    with os.fdopen(handle, "wb") as file:
        file.write(_pem(key, passphrase))
        file.flush()
        os.fsync(file.fileno())
    return SigningKey(key)


def load(name: str = DEFAULT, home: Path | None = None, ask: Ask | None = None) -> SigningKey:
    """The key of that name.

    Args:
        ask: gives the passphrase if the key has one and the environment does not say it.

    Raises:
        NotFound: there is none; names those that there are.
        PermissionDenied: others may read it, or the passphrase is wrong or missing.
        InvalidInput: the file is damaged, or another kind of key.
    """
    path = _path(name, home)
    data = _read(path, name)
    try:
        return SigningKey(_decode(data, None))
    except TypeError:
        pass  # it has a passphrase
    except ValueError as error:
        raise InvalidInput(f"{path} is no ed25519 key: {error}") from error
    passphrase = os.environ.get(VARIABLE) or (ask() if ask else "")
    try:
        return SigningKey(_decode(data, passphrase.encode() or b"\0"))
    except ValueError as error:
        raise PermissionDenied(
            f"the passphrase of the key {name!r} is {'wrong' if passphrase else 'needed'}",
            hint=f"set {VARIABLE}, or call this from a terminal",
        ) from error


def read_public(text: str) -> str:
    """A public key from what a user gives: the key, or a file that holds it.

    Raises:
        InvalidInput: it is neither.
    """
    path = Path(text)
    if not text.startswith("ed25519:") and path.is_file():
        with path.open("rb") as file:
            text = file.read(_MOST_BYTES).decode(errors="replace").strip()
    return key_text(key_bytes(text))


def _path(name: str, home: Path | None) -> Path:
    if not _NAME.fullmatch(name):
        raise InvalidInput(
            f"{name!r} cannot be a key's name", hint="use letters, digits, '-' and '_'"
        )
    return folder(home) / f"{name}.pem"


def _read(path: Path, name: str) -> bytes:
    try:
        with path.open("rb") as file:
            if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
                raise PermissionDenied(
                    f"others can read the private key {path}",
                    hint=f"chmod 600 {path}, and replace the key if they may have",
                )
            return file.read(_MOST_BYTES)
    except FileNotFoundError:
        known = ", ".join(sorted(other.stem for other in path.parent.glob("*.pem")))
        hint = f"there are: {known}" if known else f"make one with: axon keygen --name {name}"
        raise NotFound(f"there is no key {name!r}", hint=hint) from None


def _pem(key: Ed25519PrivateKey, passphrase: str) -> bytes:
    from cryptography.hazmat.primitives import serialization as forms

    cover = (
        forms.BestAvailableEncryption(passphrase.encode()) if passphrase else forms.NoEncryption()
    )
    return key.private_bytes(forms.Encoding.PEM, forms.PrivateFormat.PKCS8, cover)


def _decode(data: bytes, passphrase: bytes | None) -> Ed25519PrivateKey:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(data, passphrase)
    except UnsupportedAlgorithm as error:
        raise ValueError(str(error)) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ValueError("it is of another kind")
    return key
