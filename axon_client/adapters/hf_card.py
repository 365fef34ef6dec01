# SPDX-License-Identifier: BUSL-1.1
"""A repository's model card, and what a hub's search gives and takes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

import msgspec

from axon_client import safe_yaml
from axon_client.adapters.base import Hit

_MOST_BYTES: Final = 1 << 20
_MOST_TAGS: Final = 64
_FRONT: Final = re.compile(r"\A\s*---[ \t]*\n(.*?)\n---[ \t]*(?:\n|\Z)", re.S)
_LINK: Final = re.compile(r"!?\[([^\]]*)\]\([^)]*\)")
_TERM: Final = re.compile(r"(\w+):(\S+)")
_FILTERS: Final = {
    "author": "author", "task": "pipeline_tag", "sort": "sort", "app": "apps",
    "parameters": "num_parameters",
}  # fmt: skip
_TAGS: Final = {
    "license": "license:", "framework": "", "library": "", "format": "", "tag": "", "language": ""
}  # fmt: skip


class Card(msgspec.Struct, frozen=True):
    """What a README says of its model."""

    description: str = ""
    license: str = ""
    tags: list[str] = []


def read(path: Path) -> Card:
    """The card in a README; what it says in no way that is understood is left out."""
    if not path.is_file():
        return Card()
    with path.open("rb") as file:
        text = file.read(_MOST_BYTES).decode(errors="replace").replace("\r\n", "\n")
    front = _FRONT.match(text)
    values: Any = None
    if front:
        try:
            values = safe_yaml.parse(front[1].encode())
        except ValueError:
            values = None
    values = values if isinstance(values, dict) else {}
    tags = [
        *_texts(values, "tags"),
        *_texts(values, "library_name"),
        *_texts(values, "pipeline_tag"),
    ]
    license = _texts(values, "license_name") or _texts(values, "license")
    body = text[front.end() :] if front else text
    return Card(
        _first_sentence(body), ", ".join(license)[:200], list(dict.fromkeys(tags))[:_MOST_TAGS]
    )


def _texts(values: dict[Any, Any], key: str) -> list[str]:
    found = values.get(key)
    listed = found if isinstance(found, list) else [found]
    return [_plain(text)[:100] for text in listed if isinstance(text, str) and text.strip()]


def _first_sentence(body: str) -> str:
    """The first line of prose; cards begin with pictures and tables."""
    for line in body.splitlines():
        plain = _LINK.sub(r"\1", line).replace("*", "").replace("`", "").strip()
        if re.match(r"[^\W\d_]", plain) and " " in plain and "|" not in plain:
            return _plain(plain)[:300]
    return ""


def _plain(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text).strip()


def filters(query: str) -> dict[str, Any]:
    """A query as huggingface_hub's: words are searched for, `key:value` narrows.

    Keys: author, task, license, framework or library, format, tag, language, app, parameters
    (`min:1B,max:8B`), sort (`downloads`, `likes`, `created_at`, `trending_score`).
    """
    asked: dict[str, Any] = {"full": True}
    words, tags = [], []
    for word in query.split():
        term = _TERM.fullmatch(word)
        if term and term[1] in _FILTERS:
            asked[_FILTERS[term[1]]] = term[2]
        elif term and term[1] in _TAGS:
            tags.append(_TAGS[term[1]] + term[2])
        else:
            words.append(word)
    if words:
        asked["search"] = " ".join(words)
    if tags:
        asked["filter"] = tags
    asked.setdefault("sort", "downloads")
    return asked


def hit(model: Any, namespace: str) -> Hit:
    """One found model, from huggingface_hub's description of it."""
    tags = [str(tag) for tag in model.tags or []]
    license = next((tag.partition(":")[2] for tag in tags if tag.startswith("license:")), "")
    return Hit(
        namespace=namespace,
        name=str(model.id),
        description=str(model.pipeline_tag or ""),
        framework=str(model.library_name or ""),
        tags=tuple(tag for tag in tags if ":" not in tag)[:_MOST_TAGS],
        license=license,
    )
