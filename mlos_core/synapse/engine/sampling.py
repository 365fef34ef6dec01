# SPDX-License-Identifier: BUSL-1.1
"""What a request may ask for, checked; the names are OpenAI's and vLLM's."""

from __future__ import annotations

import difflib
import hashlib
import math
from collections.abc import Mapping
from typing import Any, Final, Literal

import msgspec

from mlos_core.errors import InvalidInput
from mlos_core.synapse.native import lib
from mlos_core.synapse.text import StopChecker
from mlos_core.synapse.text.structured import StructuredSpec

MAX_CHOICES: Final = 128
MAX_STOPS: Final = 64
MAX_BIASES: Final = 1024
MAX_DIGITS: Final = 10
MAX_LOGPROBS: Final[int] = lib.SYN_MAX_LOGPROBS
GREEDY_BELOW: Final = 1e-5
"""A temperature this low is taken as 0."""

Task = Literal["generate", "embed", "tokenize", "detokenize"]


class NamedTool(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`tool_choice` that names one."""

    name: str


class SamplingParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The parameters of one request; the defaults are the model's plain distribution."""

    task: Task = "generate"
    # the draw
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: dict[str, float] | None = None
    seed: int | None = None
    # the end
    stop: list[str] | str | None = None
    stop_token_ids: list[int] | None = None
    include_stop_str_in_output: bool = False
    ignore_eos: bool = False
    min_tokens: int = 0
    max_tokens: int | None = None
    # the answer
    n: int = 1
    logprobs: int | None = None
    echo: bool = False
    structured: dict[str, Any] | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: Literal["auto", "none", "required"] | NamedTool = "auto"
    skip_special_tokens: bool = True
    return_tokens: bool = True
    # the prompt
    add_generation_prompt: bool = True
    add_special_tokens: bool = True
    chat_template_kwargs: dict[str, Any] | None = None
    cache_salt: str = ""
    # embeddings
    pooling: Literal["last", "mean"] | None = None
    normalize: bool = True

    @property
    def stops(self) -> tuple[str, ...]:
        """The stop strings."""
        if not self.stop:
            return ()
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)

    @property
    def form(self) -> StructuredSpec | None:
        """What the answer must look like."""
        return None if self.structured is None else StructuredSpec.from_request(self.structured)

    @property
    def greedy(self) -> bool:
        """Whether the most likely token is taken."""
        return self.temperature < GREEDY_BELOW

    def seed_for(self, key: int) -> int:
        """64 bits: the request's seed, or one made of its key."""
        if self.seed is not None:
            return self.seed & 0xFFFF_FFFF_FFFF_FFFF
        digest = hashlib.blake2b(key.to_bytes(8, "little"), digest_size=8, person=b"mlos-seed")
        return int.from_bytes(digest.digest(), "little")


_RANGES: Final[tuple[tuple[str, float, float], ...]] = (
    ("temperature", 0.0, 100.0),
    ("top_k", -1, 1 << 30),
    ("top_p", 0.0, 1.0),
    ("min_p", 0.0, 1.0),
    ("repetition_penalty", 0.0, 100.0),
    ("presence_penalty", -2.0, 2.0),
    ("frequency_penalty", -2.0, 2.0),
    ("n", 1, MAX_CHOICES),
    ("min_tokens", 0, 1 << 30),
    ("max_tokens", 1, 1 << 30),
    ("logprobs", 0, MAX_LOGPROBS),
    ("seed", -(1 << 63), (1 << 64) - 1),
)
_POSITIVE: Final = ("top_p", "repetition_penalty")


def parse(given: Mapping[str, Any], vocab_size: int) -> SamplingParams:
    """Check a request's parameters.

    Raises:
        InvalidInput: one is unknown, of the wrong type or out of its range.
    """
    known = SamplingParams.__struct_fields__
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else "it knows " + ", ".join(known)
            raise InvalidInput(f"the model has no parameter {name!r}", hint=hint)
    try:
        params = msgspec.convert(dict(given), SamplingParams)
    except msgspec.ValidationError as err:
        raise InvalidInput(f"bad parameters: {err}") from err
    _check_ranges(params)
    _check_lists(params, vocab_size)
    _check_together(params)
    return params


def _check_ranges(params: SamplingParams) -> None:
    for name, low, high in _RANGES:
        value = getattr(params, name)
        if value is None:
            continue
        fits = low <= value <= high and math.isfinite(value)
        if not fits or (name in _POSITIVE and value <= 0):
            above = "above " if name in _POSITIVE else "from "
            span = f"{above}{_plain(low)} to {_plain(high)}"
            raise InvalidInput(f"{name} is {value}; it must be {span}")


def _plain(number: float) -> str:
    return str(number) if isinstance(number, int) else f"{number:g}"


def _check_lists(params: SamplingParams, vocab_size: int) -> None:
    StopChecker(params.stops)
    _ = params.form
    ids = params.stop_token_ids or []
    if len(ids) > MAX_STOPS or any(not 0 <= token < vocab_size for token in ids):
        raise InvalidInput(f"stop_token_ids takes up to {MAX_STOPS} ids below {vocab_size}")
    biases(params, vocab_size)


def biases(params: SamplingParams, vocab_size: int) -> dict[int, float]:
    """`logit_bias` by token id."""
    given = params.logit_bias or {}
    if len(given) > MAX_BIASES:
        raise InvalidInput(f"logit_bias has {len(given)} entries; it takes up to {MAX_BIASES}")
    found: dict[int, float] = {}
    for key, value in given.items():
        # int() refuses to read thousands of digits.
        fits = key.isascii() and key.isdigit() and len(key) <= MAX_DIGITS
        if not fits or int(key) >= vocab_size:
            raise InvalidInput(f"logit_bias names {key!r:.40}, not a token id below {vocab_size}")
        if not -100 <= value <= 100:
            raise InvalidInput(f"logit_bias of {key} is {value}; it must be from -100 to 100")
        found[int(key)] = value
    return found


def _check_together(params: SamplingParams) -> None:
    if params.max_tokens is not None and params.min_tokens > params.max_tokens:
        raise InvalidInput(
            f"min_tokens is {params.min_tokens}, more than max_tokens, {params.max_tokens}"
        )
    if params.tool_choice not in ("auto", "none") and not params.tools:
        raise InvalidInput("tool_choice asks for a tool, but there are no tools")
