# SPDX-License-Identifier: BUSL-1.1
"""Keys and signatures as text, each with one spelling only.

Whatever has a second spelling could be counted as a second key, or slip past a comparison,
so padding, alphabet, length and unused bits are all checked.
"""

from __future__ import annotations

import base64
import binascii
from typing import Final

from mlos_core.errors import InvalidInput

PREFIX: Final = "ed25519:"
KEY_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64

# The y coordinates of the points whose order divides 8, little-endian, sign bit cleared. With
# such a key one signature fits many messages.
_WEAK: Final = frozenset(
    bytes.fromhex(point)
    for point in (
        "00" * 32,
        "01" + "00" * 31,
        "ec" + "ff" * 30 + "7f",
        "ed" + "ff" * 30 + "7f",
        "ee" + "ff" * 30 + "7f",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    )
)


def key_text(raw: bytes) -> str:
    """A public key's 32 bytes as `ed25519:<base64>`."""
    return PREFIX + base64.b64encode(raw).decode()


def key_bytes(text: str) -> bytes:
    """The 32 bytes of `ed25519:<base64>`.

    Raises:
        InvalidInput: it is not exactly that, or no honest key.
    """
    if not text.startswith(PREFIX):
        raise InvalidInput(
            f"{_short(text)!r} is no public key", hint=f"one begins with {PREFIX}; see axon keygen"
        )
    raw = _strict(text.removeprefix(PREFIX), KEY_BYTES, "public key")
    if raw[:-1] + bytes([raw[-1] & 0x7F]) in _WEAK:
        raise InvalidInput(f"{text} is a weak key, which anybody could sign for")
    return raw


def signature_bytes(text: str) -> bytes:
    """The 64 bytes of a signature in base64.

    Raises:
        InvalidInput: it is not exactly that.
    """
    return _strict(text, SIGNATURE_BYTES, "signature")


def _strict(text: str, length: int, what: str) -> bytes:
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidInput(f"{_short(text)!r} is no {what}: it is not base64") from error
    if len(raw) != length:
        raise InvalidInput(f"{_short(text)!r} is no {what}: it has {len(raw)} bytes, not {length}")
    if base64.b64encode(raw).decode() != text:
        raise InvalidInput(f"{_short(text)!r} is no {what}: it could be spelled otherwise")
    return raw


def _short(text: str) -> str:
    return text if len(text) <= 100 else text[:97] + "..."
