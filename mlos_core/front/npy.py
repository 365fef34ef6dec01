# SPDX-License-Identifier: BUSL-1.1
"""Tensors as NumPy's own files: `.npy` for one, `.npz` for several. No pickle, ever.

An input array is a view of the request's bytes where its layout allows. Dtypes are taken as
they are, except where NumPy calls the cast safe (int32 for int64, but not float64 for
float32): whoever sends typed data has decided on the type.
"""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.lib import format as npy_format

from mlos_core.errors import InvalidInput, MlosError, PayloadTooLarge, Unsupported
from mlos_core.types import BYTES, DTYPES, Array, Signature, TensorSpec, check_inputs

_HEADER_LIMIT: Final = 10_000
_STRINGS_LIMIT: Final = 256 << 20


def read_npy(data: bytes | memoryview) -> Array:
    """The array in a `.npy` file: read-only, C order, native byte order.

    Raises:
        InvalidInput: it is no such file, it is cut short, or it holds Python objects.
    """
    stream = io.BytesIO(data)
    try:
        version = npy_format.read_magic(stream)
        read = {
            (1, 0): npy_format.read_array_header_1_0,
            (2, 0): npy_format.read_array_header_2_0,
        }[version]
        shape, fortran, dtype = read(stream, max_header_size=_HEADER_LIMIT)
    except Exception as err:  # whatever NumPy's parser makes of bytes that are no header
        raise InvalidInput("the body is no .npy file", hint="write it with numpy.save") from err
    if dtype.hasobject or dtype.names is not None or any(d < 0 for d in shape):
        raise InvalidInput(
            f"the .npy file holds {dtype}, which is not taken",
            hint="send numbers, or byte strings (dtype S), without pickle",
        )
    count = math.prod(shape)
    if dtype.itemsize == 0 or count * dtype.itemsize > len(data) - stream.tell():
        raise InvalidInput("the .npy file is cut short", hint="send all of it")
    flat = np.frombuffer(data, dtype, count, stream.tell())
    try:
        array = flat.reshape(shape, order="F" if fortran else "C")
    except (ValueError, OverflowError) as err:
        raise InvalidInput(f"the .npy file has the impossible shape {shape}") from err
    native = array.dtype.newbyteorder("=")
    return np.ascontiguousarray(array, dtype=native).reshape(shape)


def read_npz(data: bytes, limit: int) -> dict[str, Array]:
    """The arrays in a `.npz` file by name.

    Args:
        data: the file.
        limit: the most bytes its members may unpack to, together.

    Raises:
        InvalidInput: it is no such file.
        PayloadTooLarge: it unpacks to more than `limit`.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
            if sum(member.file_size for member in members) > limit:
                raise PayloadTooLarge(
                    f"the .npz file unpacks to more than {limit} bytes",
                    hint="send less at once, or raise body_limit in the daemon's configuration",
                )
            # A member never gives more than the size its entry states.
            return {m.filename.removesuffix(".npy"): read_npy(archive.read(m)) for m in members}
    except MlosError:
        raise
    except Exception as err:  # zipfile, zlib and struct have many words for damaged bytes
        raise InvalidInput("the body is no .npz file", hint="write it with numpy.savez") from err


def fit(signature: Signature, arrays: Mapping[str, Array]) -> dict[str, Array]:
    """`arrays` in the dtypes that `signature` asks for.

    Raises:
        InvalidInput: they do not fit; the hint names what does.
    """
    specs = {spec.name: spec for spec in signature.inputs}
    fitted = {n: _safe(specs[n], a) if n in specs else a for n, a in arrays.items()}
    check_inputs(signature, fitted)
    return fitted


def _safe(spec: TensorSpec, array: Array) -> Array:
    target = DTYPES.get(spec.dtype)
    if spec.dtype == BYTES or target is None or array.dtype == target:
        return array
    if array.dtype.kind in "biuf" and np.can_cast(array.dtype, target, "safe"):
        return array.astype(target)
    return array


def write_npy(array: Array) -> bytes:
    """A `.npy` file.

    Raises:
        Unsupported: byte strings that end with a zero byte, which NumPy's files lose.
    """
    plain = _plain(array)
    return b"".join((_header(plain), _bytes(plain)))


def write_npz(arrays: Mapping[str, Array]) -> bytes:
    """A `.npz` file, not compressed.

    Raises:
        Unsupported: as `write_npy`.
    """
    stream = io.BytesIO()
    plain: dict[str, Any] = {name: _plain(array) for name, array in arrays.items()}
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for name, array in plain.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                member.write(_header(array))
                member.write(_bytes(array))
    return stream.getvalue()


def _header(array: Array) -> bytes:
    stream = io.BytesIO()
    npy_format.write_array_header_1_0(stream, npy_format.header_data_from_array_1_0(array))
    return stream.getvalue()


def _bytes(array: Array) -> memoryview:
    """The data themselves, not a copy: `numpy.save` would make three."""
    return array.reshape(-1).view(np.uint8).data


def _plain(array: Array) -> Array:
    """In C order, and byte strings in NumPy's own dtype for them."""
    if array.dtype.kind != "O":
        return np.ascontiguousarray(array).reshape(array.shape)
    flat = [i.encode() if isinstance(i, str) else bytes(i) for i in array.reshape(-1).tolist()]
    if any(item.endswith(b"\0") for item in flat):
        raise Unsupported(
            "an output holds byte strings that end with a zero byte, which NumPy's files lose",
            hint="accept application/json",
        )
    if len(flat) * max(map(len, flat), default=0) > _STRINGS_LIMIT:
        raise Unsupported(
            "an output's byte strings differ too much in length for NumPy's files",
            hint="accept application/json",
        )
    # An empty tensor, or only empty strings, still needs an element size.
    size = max(1, *map(len, flat)) if flat else 1
    return np.array(flat, dtype=f"S{size}").reshape(array.shape)
