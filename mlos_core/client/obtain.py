# SPDX-License-Identifier: BUSL-1.1
"""A call for a request: a resting one of its form if there is one, else a new one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mlos_core.client.call import Call
from mlos_core.client.inputs import as_arrays, form_of
from mlos_core.client.link import Family, Link
from mlos_core.ipc import header as wire
from mlos_core.types import check_inputs


def again(recent: Family, inputs: Mapping[str, Any]) -> Call | None:
    """The hot path of `obtain`: a rested call of the last form, if `inputs` are of that form,
    and plain arrays or the very ones that lie in its places; their data are then in place."""
    try:
        call: Call = recent.pop()
    except IndexError:
        return None
    if len(inputs) == len(call.places):
        try:
            for name, target, dtype, shape, source in call.places:
                array = inputs[name]
                if array.dtype is not dtype or array.shape != shape:
                    break
                if source is not None:
                    if source() is not array:
                        break
                    call.hold = inputs  # arrays in the arena must outlive the request
                    continue
                base = array.base  # a view is plain if it is one of an array's own memory
                if base is not None and (type(base) is not np.ndarray or base.base is not None):
                    break
                target[...] = array  # type: ignore[index]
            else:
                call.link.copied_bytes += call.bytes_in
                return call
        except (KeyError, AttributeError):
            pass  # another name, or no array
    recent.append(call)
    return None


def obtain(
    link: Link,
    inputs: Mapping[str, Any],
    kind: int = wire.INFER,
    outputs: Sequence[str] = (),
    parameters: Mapping[str, Any] | None = None,
) -> Call:
    """A call with the data of `inputs` in place, new or rested.

    Raises:
        InvalidInput: the inputs do not fit the model.
        Overloaded: no slot or no memory is free.
    """
    arrays = as_arrays(inputs, link.signature)
    form = form_of(link, arrays, kind, outputs, parameters)
    call: Call | None = link.wake(form)
    if call is None:
        check_inputs(link.signature, arrays)
        call = Call(link, form, arrays, kind, outputs, parameters)
    call.write(arrays)
    call.hold = tuple(arrays.values())  # arrays in the arena must outlive the request
    return call
