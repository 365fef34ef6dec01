# SPDX-License-Identifier: BUSL-1.1
"""A sentence encoder's folder: what kind of model it is, and where its tensors are.

The folder is what sentence-transformers or transformers save: `config.json`, safetensors,
and for pooling `modules.json` and what it names. What is absent means what it means there:
without `modules.json` the mean of the tokens' vectors, as long as it comes out.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec

from mlos_core.errors import LoadFailed, Unsupported
from mlos_core.synapse.mapping import read_file
from mlos_core.synapse.safetensors import SafeTensor, open_folder_tensors

CONFIG: Final = "config.json"
_LARGEST_CONFIG: Final = 1 << 20

Pooling = Literal["mean", "cls"]
Count = Annotated[int, msgspec.Meta(ge=1, le=1 << 28)]


class BertConfig(msgspec.Struct, frozen=True):
    """The part of a BERT's `config.json` that this engine reads."""

    model_type: str
    vocab_size: Count
    hidden_size: Count
    num_hidden_layers: Annotated[int, msgspec.Meta(ge=1, le=1024)]
    num_attention_heads: Count
    intermediate_size: Count
    max_position_embeddings: Count
    type_vocab_size: Count = 2
    hidden_act: str = "gelu"
    layer_norm_eps: Annotated[float, msgspec.Meta(ge=0)] = 1e-12
    position_embedding_type: str = "absolute"
    is_decoder: bool = False

    def check(self) -> None:
        """Raise `Unsupported`, naming the value, unless this is an encoder as computed here."""
        for name, found, right in (
            ("model_type", self.model_type, "bert"),
            ("hidden_act", self.hidden_act, "gelu"),
            ("position_embedding_type", self.position_embedding_type, "absolute"),
            ("is_decoder", self.is_decoder, False),
        ):
            if found != right:
                raise Unsupported(
                    f"{CONFIG}: {name} is {found!r}", hint=f"the encoder computes {right!r} alone"
                )
        if self.hidden_size % self.num_attention_heads:
            raise LoadFailed(
                f"{CONFIG}: {self.num_attention_heads} heads do not divide {self.hidden_size}"
            )


class EncoderFiles(msgspec.Struct, frozen=True, kw_only=True):
    """An encoder's folder, opened.

    `max_tokens` is how long a text may be by the model's own word, special tokens included;
    `tensors` have their names in BERT, without the prefix that some files put before them.
    """

    config: BertConfig
    pooling: Pooling
    normalise: bool
    max_tokens: int
    tensors: Mapping[str, SafeTensor]
    lower_case: bool = False


class _Module(msgspec.Struct, frozen=True):
    path: str
    type: str


class _PoolingConfig(msgspec.Struct, frozen=True):
    pooling_mode: str = ""
    pooling_mode_cls_token: bool = False
    pooling_mode_mean_tokens: bool = False
    pooling_mode_max_tokens: bool = False
    pooling_mode_mean_sqrt_len_tokens: bool = False
    pooling_mode_weightedmean_tokens: bool = False
    pooling_mode_lasttoken: bool = False


class _SentenceConfig(msgspec.Struct, frozen=True):
    max_seq_length: Count | None = None
    do_lower_case: bool = False


T = TypeVar("T")


def is_encoder(folder: Path) -> bool:
    """Whether the folder's `config.json` says that it holds a BERT."""
    try:
        kind = _read(folder / CONFIG, dict[str, Any]).get("model_type")
    except LoadFailed:
        return False
    return kind == "bert"


def open_encoder(folder: Path) -> EncoderFiles:
    """Read what the folder says and map its tensors.

    Raises:
        LoadFailed: a file is missing or wrong; it is named.
        Unsupported: it holds another kind of model; what differs is named.
    """
    config = _read(folder / CONFIG, BertConfig)
    config.check()
    pooling, normalise = _modules(folder)
    sentence = _SentenceConfig()
    if (folder / "sentence_bert_config.json").exists():
        sentence = _read(folder / "sentence_bert_config.json", _SentenceConfig)
    longest = config.max_position_embeddings
    _, tensors = open_folder_tensors(folder)
    return EncoderFiles(
        config=config,
        pooling=pooling,
        normalise=normalise,
        max_tokens=min(sentence.max_seq_length or longest, longest),
        tensors={_plain(name): tensor for name, tensor in tensors.items()},
        lower_case=sentence.do_lower_case,
    )


def _plain(name: str) -> str:
    """The name as it is called here: no prefix, and a norm's weights by their newer names."""
    name = name.removeprefix("bert.")
    for old, new in (("LayerNorm.gamma", "LayerNorm.weight"), ("LayerNorm.beta", "LayerNorm.bias")):
        if name.endswith(old):
            return name.removesuffix(old) + new
    return name


def _modules(folder: Path) -> tuple[Pooling, bool]:
    """How vectors are pooled, and whether to a length of 1."""
    if not (folder / "modules.json").exists():
        return "mean", False
    modules = _read(folder / "modules.json", list[_Module])
    kinds = [module.type.rpartition(".")[2] for module in modules]
    if kinds not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        raise Unsupported(
            "modules.json: the modules are " + ", ".join(kinds),
            hint="the encoder computes Transformer, Pooling and Normalize, in that order",
        )
    return _pooling(folder, modules[1].path), len(kinds) == 3


def _pooling(folder: Path, name: str) -> Pooling:
    if Path(name).name != name:
        raise LoadFailed(f"modules.json: {name!r} is no folder beside it")
    modes = _read(folder / name / CONFIG, _PoolingConfig)
    chosen = [word for word in modes.__struct_fields__[1:] if getattr(modes, word)]
    if modes.pooling_mode in ("mean", "cls"):
        return "cls" if modes.pooling_mode == "cls" else "mean"
    if not modes.pooling_mode and chosen == ["pooling_mode_mean_tokens"]:
        return "mean"
    if not modes.pooling_mode and chosen == ["pooling_mode_cls_token"]:
        return "cls"
    found = modes.pooling_mode or " and ".join(chosen) or "nothing"
    raise Unsupported(f"{name}/{CONFIG}: it pools by {found}", hint="mean and cls are computed")


def _read(path: Path, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(read_file(path, _LARGEST_CONFIG), type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as err:
        raise LoadFailed(f"{path.name}: {err}") from None
