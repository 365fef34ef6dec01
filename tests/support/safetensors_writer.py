# SPDX-License-Identifier: BUSL-1.1
"""Safetensors files, written by hand: right ones, and wrong ones from the same pieces."""

from __future__ import annotations

import json


def entry(dtype, shape, begin, end):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


def raw(header, body=b"", length=None):
    """A file with any header, bytes or an object, and any length in front of it."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    length = len(text) if length is None else length
    return length.to_bytes(8, "little") + text + body


def write(tensors, metadata=None):
    """A file of `{name: (dtype, shape, bytes)}`."""
    header, body = {} if metadata is None else {"__metadata__": metadata}, b""
    for name, (dtype, shape, data) in tensors.items():
        header[name] = entry(dtype, shape, len(body), len(body) + len(data))
        body += data
    return raw(header, body)


def split(content):
    """Header and data of a file."""
    end = 8 + int.from_bytes(content[:8], "little")
    return content[8:end], content[end:]


def pad_header(content, count):
    """The same file with `count` spaces more."""
    header, body = split(content)
    return raw(header + b" " * count, body)
