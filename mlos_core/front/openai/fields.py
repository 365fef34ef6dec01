# SPDX-License-Identifier: BUSL-1.1
"""What chat and completions have in common: the fields that say how text is generated.

A field that is absent or null is not sent to the model, whose own default then counts.
A field that nobody knows is an error, as it is for OpenAI: a misspelt `temprature` would
otherwise be ignored in silence.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from mlos_core.front.openai.problems import invalid

Count = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Positive = Annotated[int, Meta(ge=1, le=2**31 - 1)]
Seed = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Penalty = Annotated[float, Meta(ge=-2, le=2)]
Bias = Annotated[float, Meta(ge=-100, le=100)]
Choices = Annotated[int, Meta(ge=1, le=128)]
Top = Annotated[int, Meta(ge=0, le=20)]

# Sent to the model under the same name.
_PLAIN: Final = (
    "temperature",
    "top_p",
    "min_p",
    "presence_penalty",
    "frequency_penalty",
    "repetition_penalty",
    "seed",
    "stop_token_ids",
    "include_stop_str_in_output",
    "ignore_eos",
    "min_tokens",
    "skip_special_tokens",
    "n",
)
# Known to OpenAI or vLLM and not served here: what each may hold all the same.
_NEUTRAL: Final[dict[str, tuple[Any, ...]]] = {
    "use_beam_search": (False,),
    "length_penalty": (1,),
    "early_stopping": (False,),
    "best_of": (),
    "logits_processors": ([],),
    "prompt_logprobs": (),
    "truncate_prompt_tokens": (),
    "allowed_token_ids": (),
    "bad_words": ([],),
    "return_token_ids": (False,),
    "return_tokens_as_token_ids": (False,),
    "spaces_between_special_tokens": (True,),
    "priority": (0,),
    "kv_transfer_params": (),
    "vllm_xargs": ({},),
    "guided_whitespace_pattern": (),
    "structural_tag": (),
}


class StreamOptions(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """`include_usage`: a last chunk with the counts; or the counts so far in every chunk."""

    include_usage: bool | None = None
    continuous_usage_stats: bool | None = None


class StructuredOutputs(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What the text must look like: one of these. `grammar` is in Lark's form."""

    json: str | dict[str, Any] | None = None
    json_object: bool | None = None
    regex: str | None = None
    choice: list[str] | None = None
    grammar: str | None = None


class Generation(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """How to generate. `model` may be missing where one model alone can serve the request."""

    model: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Choices | None = None
    max_tokens: Positive | None = None
    min_tokens: Count | None = None
    temperature: Annotated[float, Meta(ge=0)] | None = None
    top_p: Annotated[float, Meta(gt=0, le=1)] | None = None
    top_k: Annotated[int, Meta(ge=-1)] | None = None
    min_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    repetition_penalty: Annotated[float, Meta(gt=0)] | None = None
    logit_bias: dict[str, Bias] | None = None
    seed: Seed | None = None
    stop: str | list[str] | None = None
    stop_token_ids: list[Count] | None = None
    include_stop_str_in_output: bool | None = None
    ignore_eos: bool | None = None
    skip_special_tokens: bool | None = None
    cache_salt: Annotated[str, Meta(min_length=1)] | None = None
    # --- the form of the text
    response_format: dict[str, Any] | None = None
    structured_outputs: StructuredOutputs | None = None
    guided_json: str | dict[str, Any] | None = None
    guided_regex: str | None = None
    guided_choice: list[str] | None = None
    guided_grammar: str | None = None
    guided_decoding_backend: str | None = None  # accepted: there is one
    # --- accepted, and of no effect here
    user: str | None = None
    store: bool | None = None
    metadata: dict[str, Any] | None = None
    service_tier: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    prompt_cache_options: Any = None
    request_id: str | None = None
    # --- known, not served: `_NEUTRAL` says what they may hold
    best_of: Any = None
    use_beam_search: Any = None
    length_penalty: Any = None
    early_stopping: Any = None
    logits_processors: Any = None
    prompt_logprobs: Any = None
    truncate_prompt_tokens: Any = None
    allowed_token_ids: Any = None
    bad_words: Any = None
    return_token_ids: Any = None
    return_tokens_as_token_ids: Any = None
    spaces_between_special_tokens: Any = None
    priority: Any = None
    kv_transfer_params: Any = None
    vllm_xargs: Any = None
    guided_whitespace_pattern: Any = None
    structural_tag: Any = None

    @property
    def choices(self) -> int:
        """How many answers each prompt gets."""
        return self.n or 1


def refuse(body: Any, neutral: dict[str, tuple[Any, ...]]) -> None:
    """Refuse fields that hold something other than what changes nothing.

    Raises:
        InvalidValue: for the first of them.
    """
    for name, harmless in neutral.items():
        value = getattr(body, name)
        if value is not None and value not in harmless:
            raise invalid(name, f"{name} is not supported by this server", "leave it out")


def check(body: Generation) -> None:
    """Refuse what is known and not served, and options that contradict each other."""
    if body.best_of is not None and body.best_of == body.choices:
        body.best_of = None
    refuse(body, _NEUTRAL)
    if body.stream_options is not None and not body.stream:
        raise invalid("stream_options", "stream_options needs stream: true")


def sampling(body: Generation) -> dict[str, Any]:
    """The model's parameters that follow from the common fields."""
    given = {name: getattr(body, name) for name in _PLAIN}
    parameters = {name: value for name, value in given.items() if value is not None}
    if body.top_k is not None:
        parameters["top_k"] = max(body.top_k, 0)  # -1 is vLLM's word for all
    if body.stop:
        parameters["stop"] = _stop(body.stop)
    if body.logit_bias:
        parameters["logit_bias"] = _bias(body.logit_bias)
    return parameters


def _stop(stop: str | list[str]) -> list[str]:
    texts = [stop] if isinstance(stop, str) else stop
    if "" in texts:
        raise invalid("stop", "stop holds an empty string", "leave it out")
    return texts


def _bias(bias: dict[str, float]) -> dict[str, float]:
    for token in bias:
        if not (token.isascii() and token.isdigit()):
            raise invalid("logit_bias", f"{token!r} is no token id", "use token ids as keys")
    return bias
