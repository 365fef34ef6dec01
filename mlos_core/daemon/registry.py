# SPDX-License-Identifier: BUSL-1.1
"""The models that are registered. They come back after a restart.

`Registry` is pure; `RegistryFile` keeps it as JSON in the state folder.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from mlos_core.daemon.files import write_atomic
from mlos_core.errors import AlreadyExists, ConfigError, InvalidInput, NotFound
from mlos_core.ipc.messages import BatchPolicy

FORMAT: Final = 1
MAX_INSTANCES: Final = 16
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@:+/-]{0,127}")


class ModelEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One registered model, as the user gave it. `registered_at` is Unix time."""

    name: str
    path: str
    plugin: str
    version: str = ""
    device: str = "cpu"
    options: dict[str, Any] = {}
    instances: int = 1
    batch: BatchPolicy = BatchPolicy()
    manifest: dict[str, Any] | None = None
    warmup: bool = True
    registered_at: float = 0.0

    def check(self) -> None:
        """Raise `InvalidInput` unless every value is possible."""
        if not _NAME.fullmatch(self.name):
            raise InvalidInput(
                f"{self.name!r} is no model name",
                hint="use up to 128 letters, digits and ._@:+/- with a letter or digit first",
            )
        if not 1 <= self.instances <= MAX_INSTANCES:
            raise InvalidInput(
                f"{self.instances} instances are not possible",
                hint=f"give a number from 1 to {MAX_INSTANCES}",
            )
        if self.batch.max_batch_size < 1 or self.batch.max_queue_delay_us < 0:
            raise InvalidInput(
                "the batch policy is not possible",
                hint="max_batch_size is at least 1, max_queue_delay_us at least 0",
            )

    def same_as(self, other: ModelEntry) -> bool:
        """Whether both ask for the same thing, whenever they were registered."""
        return msgspec.structs.replace(self, registered_at=0.0) == msgspec.structs.replace(
            other, registered_at=0.0
        )


class _Document(msgspec.Struct, forbid_unknown_fields=True):
    format: int
    models: list[ModelEntry]


class Registry:
    """The entries by name."""

    def __init__(self, entries: Iterable[ModelEntry] = ()) -> None:
        self._entries = {entry.name: entry for entry in entries}

    def __iter__(self) -> Iterator[ModelEntry]:
        return iter(sorted(self._entries.values(), key=lambda entry: entry.name))

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def get(self, name: str) -> ModelEntry:
        """The entry of that name.

        Raises:
            NotFound: none; the hint names the nearest one.
        """
        try:
            return self._entries[name]
        except KeyError:
            raise unknown_model(name, self._entries) from None

    def put(self, entry: ModelEntry, *, replace: bool = False) -> None:
        """Add an entry.

        Raises:
            InvalidInput: a value is impossible.
            AlreadyExists: the name is taken by something different.
        """
        entry.check()
        old = self._entries.get(entry.name)
        if old is not None and not replace and not old.same_as(entry):
            raise AlreadyExists(
                f"another model is registered as {entry.name!r}",
                hint="choose another name, or replace it with --replace",
            )
        self._entries[entry.name] = entry

    def remove(self, name: str) -> ModelEntry:
        """Take an entry out; raises `NotFound`."""
        entry = self.get(name)
        del self._entries[name]
        return entry

    def encode(self) -> bytes:
        """The file's content."""
        document = _Document(FORMAT, list(self))
        return msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"


def decode(data: bytes) -> Registry:
    """The inverse of `Registry.encode`.

    Raises:
        ValueError: the bytes are no registry of a format we know.
    """
    version = msgspec.json.decode(data, type=dict[str, Any]).get("format")
    if version != FORMAT:
        raise ValueError(f"format {version!r} is not {FORMAT}")
    return Registry(msgspec.json.decode(data, type=_Document).models)


def unknown_model(name: str, known: Iterable[str]) -> NotFound:
    """The error for a name nobody registered."""
    near = difflib.get_close_matches(name, list(known), n=1)
    hint = f"did you mean {near[0]!r}?" if near else "see `mlosctl models` for what there is"
    return NotFound(f"no model is registered as {name!r}", hint=hint)


class RegistryFile:
    """The registry on disk."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def load(self) -> Registry:
        """Read it; no file is an empty registry.

        Raises:
            ConfigError: the file is damaged. It was renamed, so that the next start
                begins with an empty registry and nothing is lost.
        """
        try:
            return decode(self.path.read_bytes())
        except FileNotFoundError:
            return Registry()
        except (msgspec.MsgspecError, ValueError, UnicodeDecodeError) as err:
            aside = self._put_aside()
            raise ConfigError(
                f"the model registry {self.path} cannot be read: {err}",
                hint=f"it was kept as {aside.name}; repair it and move it back, or start again "
                "with an empty registry",
            ) from err
        except OSError as err:
            raise ConfigError(
                f"the model registry {self.path} cannot be read: {err.strerror}",
                hint="check its permissions",
            ) from err

    def _put_aside(self) -> Path:
        number = 0
        while (aside := self.path.with_name(f"{self.path.name}.corrupt-{number}")).exists():
            number += 1
        return self.path.rename(aside)

    def save(self, registry: Registry) -> None:
        """Write it so that a crash leaves the old file or the new one."""
        write_atomic(self.path, registry.encode())
