# SPDX-License-Identifier: BUSL-1.1
"""Inference requests in each form they come in, brought into one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from starlette.requests import Request

from mlos_core.errors import InvalidInput
from mlos_core.front import codec, npy
from mlos_core.front.body import NPY, decode_json
from mlos_core.types import BYTES, Array, Signature, TensorSpec

TIMEOUT_HEADER: Final = "x-mlos-timeout"


class Options(msgspec.Struct, frozen=True):
    """What is asked for beside the inputs."""

    outputs: tuple[str, ...] = ()
    parameters: dict[str, Any] = {}
    timeout: float | None = None
    stream: bool = False
    version: str = ""


_NONE: Final = Options()


class InferBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`inputs` by name, or the one input's value alone, also called `input`.

    `outputs` empty means all; `timeout` is in seconds; `input_format` is `text` or `json`;
    without a `version` the model's route says which one answers.
    """

    inputs: Any = None
    input: Any = None
    input_format: str = ""
    outputs: tuple[str, ...] = ()
    parameters: dict[str, Any] = {}
    timeout: float | None = None
    stream: bool = False
    version: str = ""

    @property
    def options(self) -> Options:
        """The part that is not input."""
        return Options(self.outputs, self.parameters, self.timeout, self.stream, self.version)


class ModelInferBody(InferBody, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The same, with the model's name."""

    model_id: str


def named_body(raw: bytes, signature: Signature) -> InferBody:
    """A body of the original Core: the inputs' names are the keys; or as `InferBody`."""
    fields = decode_json(raw, dict[str, Any])
    names = {spec.name for spec in signature.inputs}
    if fields.keys() <= names or not fields.keys() & {"inputs", "input"}:
        return InferBody(inputs=fields)
    return decode_json(raw, InferBody)


def inputs_of(body: InferBody, signature: Signature) -> dict[str, Array]:
    """The arrays that a JSON body means.

    Raises:
        InvalidInput: they do not fit the model; the hint names what does.
    """
    given = [value for value in (body.inputs, body.input) if value is not None]
    if len(given) != 1:
        raise InvalidInput(
            "the body has both input and inputs" if given else "the body has no inputs",
            hint=f"send inputs; the model maps {signature.describe()}",
        )
    if body.input_format == "text":
        return codec.to_arrays(signature, {_text_input(signature).name: given[0]})
    if body.input_format not in ("", "json"):
        raise InvalidInput(
            f"unknown input_format {body.input_format!r}",
            hint="use text, or leave it out and send numbers",
        )
    value = given[0]
    if not isinstance(value, dict) or value.keys() == {"b64"}:
        value = {only_input(signature).name: value}
    return codec.to_arrays(signature, value)


def binary_inputs(
    kind: str, data: bytes, name: str, signature: Signature, limit: int
) -> dict[str, Array]:
    """The arrays in a body of type npy (of the input `name`, or the only one) or npz."""
    if kind == NPY:
        arrays = {name or only_input(signature).name: npy.read_npy(data)}
    else:
        arrays = npy.read_npz(data, limit)
    return npy.fit(signature, arrays)


def only_input(signature: Signature) -> TensorSpec:
    """The input that a value without a name is for.

    Raises:
        InvalidInput: there are several.
    """
    required = [spec for spec in signature.inputs if not spec.optional]
    candidates = required if len(required) == 1 else list(signature.inputs)
    if len(candidates) != 1:
        raise InvalidInput(
            f"the model has {len(candidates)} inputs, so each needs its name",
            hint=f"the model maps {signature.describe()}",
        )
    return candidates[0]


def _text_input(signature: Signature) -> TensorSpec:
    found = [spec for spec in signature.inputs if spec.dtype == BYTES]
    if len(found) != 1:
        raise InvalidInput(
            f"the model has {len(found)} inputs that take text",
            hint=f"the model maps {signature.describe()}",
        )
    return found[0]


def url_options(request: Request) -> Options:
    """Options of a request whose body holds tensors only.

    Query: `timeout`, `outputs` (names with commas between), `parameters` (a JSON object),
    `stream`, `version`. Header: `X-MLOS-Timeout`.
    """
    timeout = request.headers.get(TIMEOUT_HEADER)
    if not request.scope["query_string"]:
        return _NONE if timeout is None else Options(timeout=_seconds(timeout))
    query = request.query_params
    raw = query.get("parameters")
    outputs = tuple(name for name in query.get("outputs", "").split(",") if name)
    return Options(
        outputs=outputs,
        parameters=decode_json(raw.encode(), dict[str, Any]) if raw else {},
        timeout=_seconds(query.get("timeout") or timeout),
        stream=query.get("stream", "false").lower() in ("true", "1"),
        version=query.get("version", ""),
    )


def _seconds(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        return float(text)
    except ValueError as err:
        raise InvalidInput(
            f"the timeout is {text!r}", hint="give a number of seconds, e.g. 2.5"
        ) from err


def merged(body: Options, url: Options) -> Options:
    """Both together; the body is the closer word."""
    return Options(
        outputs=body.outputs or url.outputs,
        parameters={**url.parameters, **body.parameters},
        timeout=url.timeout if body.timeout is None else body.timeout,
        stream=body.stream or url.stream,
        version=same_version(body.version, url.version),
    )


def same_version(*given: str) -> str:
    """The one version that is named, in one place or in several; none is as well.

    Raises:
        InvalidInput: they differ.
    """
    named = sorted(set(filter(None, given)))
    if len(named) > 1:
        raise InvalidInput(f"the request names versions {' and '.join(named)}", hint="name one")
    return "".join(named)


def check_outputs(signature: Signature, outputs: tuple[str, ...]) -> None:
    """Refuse names the model does not have.

    Raises:
        InvalidInput: for such a name.
    """
    names: Mapping[str, TensorSpec] = {spec.name: spec for spec in signature.outputs}
    for name in outputs:
        if name not in names:
            raise InvalidInput(
                f"unknown output {name!r}", hint=f"the model maps {signature.describe()}"
            )
