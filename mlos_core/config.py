# SPDX-License-Identifier: BUSL-1.1
"""The daemon's configuration, and where its socket lies.

Layers: TOML file < environment (`MLOS_*`) < flags. Unknown keys are errors that name the
nearest known one. Derived values are properties. Importing this loads nothing heavy: every
client asks it for the socket.
"""

from __future__ import annotations

import difflib
import os
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from mlos_core.errors import ConfigError, PermissionDenied

PREFIX: Final = "MLOS_"
# Variables with our prefix that are not settings of the daemon.
_FOREIGN: Final = frozenset(
    {"MLOS_CONFIG", "MLOS_SOCKET", "MLOS_CORE_ENDPOINT", "MLOS_CHANNEL_MODULE"}
)
_FOREIGN_PREFIXES: Final = ("MLOS_PLUGIN_", "MLOS_TEST_", "MLOS_CRASH_", "MLOS_BENCH_")


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Every setting, with its default. Times are seconds, sizes bytes."""

    run_dir: str = ""
    state_dir: str = ""
    socket_mode: int = 0o600
    socket_gid: int = -1
    allowed_uids: tuple[int, ...] = ()

    http: bool = True
    http_host: str = "127.0.0.1"
    http_port: int = 8080
    http_socket: str = ""
    body_limit: int = 256 << 20

    log_format: Literal["text", "json"] = "text"
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    max_clients: int = 1024
    max_channels: int = 4096
    max_slots: int = 1024
    max_arena_bytes: int = 1 << 30

    restart_initial: float = 0.1
    restart_max: float = 30.0
    restart_limit: int = 5
    healthy_after: float = 10.0
    max_attempts: int = 3

    load_timeout: float = 300.0
    drain_timeout: float = 30.0
    orphan_grace: float = 30.0
    adopt_grace: float = 5.0
    keep_workers: bool = False

    warm_plugins: tuple[str, ...] = ()
    memory_budget: int = 0

    wait_mode: Literal["adaptive", "spin", "block"] = "adaptive"
    poll_max_us: int = 2000

    def __post_init__(self) -> None:
        if not 0 <= self.http_port <= 65535:
            raise ConfigError(
                f"http_port is {self.http_port}", hint="give a port from 0 (any free one) to 65535"
            )
        for name in _POSITIVE:
            if getattr(self, name) <= 0:
                raise ConfigError(f"{name} is {getattr(self, name)}", hint="give a number above 0")
        for name in _NOT_NEGATIVE:
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} is {getattr(self, name)}", hint="give 0 or more")

    @property
    def run_path(self) -> Path:
        """The folder of socket and lock; gone after a reboot."""
        return Path(self.run_dir) if self.run_dir else run_dir()

    @property
    def state_path(self) -> Path:
        """The folder of what outlives a reboot: the registry and the owner numbers."""
        if self.state_dir:
            return Path(self.state_dir)
        base = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
        return Path(base) / "mlos"

    @property
    def socket(self) -> Path:
        """The control socket."""
        return self.run_path / "mlosd.sock"

    @property
    def workers_file(self) -> Path:
        """Which workers live, for a daemon that comes back."""
        return self.run_path / "workers.json"

    @property
    def registry_file(self) -> Path:
        """The registered models."""
        return self.state_path / "registry.json"

    @property
    def owners_file(self) -> Path:
        """The first owner number that was never reserved."""
        return self.state_path / "owners.json"

    @property
    def run_dir_mode(self) -> int:
        """0700, opened for passing through as far as the socket itself is open to others."""
        group = 0o010 if self.socket_mode & 0o070 else 0
        others = 0o001 if self.socket_mode & 0o007 else 0
        return 0o700 | group | others


_NOT_NEGATIVE: Final = (
    "restart_initial",
    "restart_max",
    "healthy_after",
    "poll_max_us",
    "memory_budget",
)
_POSITIVE: Final = (
    "body_limit",
    "max_clients",
    "max_channels",
    "max_slots",
    "max_arena_bytes",
    "restart_limit",
    "max_attempts",
    "load_timeout",
    "drain_timeout",
    "orphan_grace",
    "adopt_grace",
)


def load(
    file: Path | None = None,
    environ: Mapping[str, str] | None = None,
    flags: Mapping[str, Any] | None = None,
) -> Config:
    """Put the layers together.

    Args:
        file: a TOML file; without it `MLOS_CONFIG` names one, if set.
        environ: the environment (default: the process's own).
        flags: settings from the command line; `None` values are not set.

    Raises:
        ConfigError: the file cannot be read, a key is unknown, or a value does not fit.
    """
    env = os.environ if environ is None else environ
    if file is None and env.get("MLOS_CONFIG"):
        file = Path(env["MLOS_CONFIG"])
    values: dict[str, Any] = {}
    if file is not None:
        values.update(_checked(read_file(file), f"{file}", strict=True))
    values.update(_checked(_from_environment(env), "the environment", strict=False))
    given = {key: value for key, value in (flags or {}).items() if value is not None}
    values.update(_checked(given, "the command line", strict=False))
    return Config(**values)


def read_file(file: Path) -> dict[str, Any]:
    """The settings of a TOML file, unchecked.

    Raises:
        ConfigError: it cannot be read or is no TOML.
    """
    import tomllib

    try:
        return tomllib.loads(file.read_text())
    except OSError as err:
        raise ConfigError(
            f"the configuration file {file} cannot be read: {err.strerror}",
            hint="give an existing file with --config, or unset MLOS_CONFIG",
        ) from err
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as err:
        raise ConfigError(
            f"the configuration file {file} is no TOML: {err}", hint="correct that line"
        ) from err


def _from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, text in environ.items():
        if not name.startswith(PREFIX) or name in _FOREIGN:
            continue
        if name.startswith(_FOREIGN_PREFIXES) or not text:
            continue
        key = name.removeprefix(PREFIX).lower()
        if key not in Config.__struct_fields__:
            raise _unknown(name, "the environment", (PREFIX + k.upper() for k in _keys()))
        values[key] = parse(key, text)
    return values


def parse(key: str, text: str) -> Any:
    """A setting given as text, where its type needs more than a conversion."""
    if key in ("allowed_uids", "warm_plugins"):
        return [part.strip() for part in text.split(",") if part.strip()]
    if key == "socket_mode":
        return octal(text)
    return text


def octal(text: str) -> int:
    """A file mode as people write it: `600`, `0660`, `0o660`.

    Raises:
        ConfigError: it is none.
    """
    try:
        return int(text.removeprefix("0o"), 8)
    except ValueError as err:
        raise ConfigError(f"socket_mode {text!r} is no file mode", hint="write e.g. 0660") from err


def _checked(values: Mapping[str, Any], where: str, *, strict: bool) -> dict[str, Any]:
    """Values as the types of `Config`; text is parsed unless `strict`."""
    types = {field.name: field.type for field in msgspec.structs.fields(Config)}
    checked: dict[str, Any] = {}
    for key, value in values.items():
        if key not in types:
            raise _unknown(key, where, _keys())
        try:
            checked[key] = msgspec.convert(value, types[key], strict=strict)
        except msgspec.ValidationError as err:
            raise ConfigError(
                f"{key} = {value!r} in {where} does not fit: {err}", hint="correct the value"
            ) from err
    return checked


def _keys() -> Iterable[str]:
    return Config.__struct_fields__


def _unknown(key: str, where: str, known: Iterable[str]) -> ConfigError:
    near = difflib.get_close_matches(key, list(known), n=1)
    hint = f"did you mean {near[0]}?" if near else "see `mlosd --help` for the settings"
    return ConfigError(f"unknown setting {key} in {where}", hint=hint)


# --- folders --------------------------------------------------------------------------


def run_dir() -> Path:
    """Where the daemon of this user has its socket: `MLOS_RUN_DIR`, else the session's
    runtime folder, else one in /tmp. The folder may not exist yet."""
    if given := os.environ.get("MLOS_RUN_DIR"):
        return Path(given)
    if runtime := os.environ.get("XDG_RUNTIME_DIR"):
        return Path(runtime) / "mlos"
    return Path("/tmp") / f"mlos-{os.getuid()}"  # noqa: S108 - ownership is checked


def default_socket() -> Path:
    """The control socket a client connects to: `MLOS_SOCKET`, else the one in `run_dir()`.

    Raises:
        PermissionDenied: the folder belongs to somebody else, who could answer in the
            daemon's name.
    """
    if given := os.environ.get("MLOS_SOCKET"):
        return Path(given)
    folder = run_dir()
    if folder.exists():
        _check_owner(folder)
    return folder / "mlosd.sock"


def make_private(folder: Path, mode: int = 0o700) -> Path:
    """Create `folder` (or take the existing one, if it is ours) with `mode`.

    Raises:
        PermissionDenied: it belongs to somebody else or is no folder.
        ConfigError: it cannot be made.
    """
    try:
        folder.mkdir(mode=mode, parents=True, exist_ok=True)
    except OSError as err:
        raise ConfigError(
            f"the folder {folder} cannot be made: {err.strerror}",
            hint="choose another one with --run-dir or --state-dir",
        ) from err
    _check_owner(folder)
    folder.chmod(mode)
    return folder


def _check_owner(folder: Path) -> None:
    info = folder.lstat()
    if not stat.S_ISDIR(info.st_mode) or info.st_uid not in (os.getuid(), 0):
        raise PermissionDenied(
            f"{folder} is not a folder of this user",
            hint="remove it, or name another one with MLOS_RUN_DIR (clients: MLOS_SOCKET)",
        )
