# SPDX-License-Identifier: BUSL-1.1
"""Every error the system raises, in one tree.

Each class says who is at fault, what to do next, and how the error looks on the
outside: its HTTP status, its gRPC code and the exit code of a command that ends with it.
The `code` travels over the wire; `from_wire` turns it back into the class.
"""

from __future__ import annotations

from typing import ClassVar, Literal

Fault = Literal["caller", "model", "server", "environment"]

BY_CODE: dict[str, type[MlosError]] = {}


class MlosError(Exception):
    """Base of all errors raised by MLOS Core.

    Args:
        message: what happened, in one sentence, naming the thing it happened to.
        hint: what the reader can do about it, in the imperative; may be empty.
    """

    code: ClassVar[str] = "internal"
    fault: ClassVar[Fault] = "server"
    http_status: ClassVar[int] = 500
    grpc_code: ClassVar[str] = "INTERNAL"
    exit_code: ClassVar[int] = 70
    retryable: ClassVar[bool] = False

    accepted: bool = True
    """False where the request certainly reached no model, so that it can be sent again."""

    def __init_subclass__(
        cls,
        *,
        code: str,
        fault: Fault,
        http: int,
        grpc: str,
        exit: int,
        retryable: bool = False,
    ) -> None:
        cls.code, cls.fault, cls.retryable = code, fault, retryable
        cls.http_status, cls.grpc_code, cls.exit_code = http, grpc, exit
        BY_CODE[code] = cls

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.message, self.hint))


def _rebuild(kind: type[MlosError], message: str, hint: str) -> MlosError:
    return kind(message, hint=hint)


def from_wire(code: str, message: str, hint: str = "") -> MlosError:
    """The error that `code` names; an unknown code gives the base class."""
    return BY_CODE.get(code, MlosError)(message, hint=hint)


# --- the caller is at fault -----------------------------------------------------------


class InvalidInput(
    MlosError, code="invalid_input", fault="caller", http=400, grpc="INVALID_ARGUMENT", exit=65
):
    """The request does not fit the model: a name, a dtype, a shape or a value is wrong."""


class PayloadTooLarge(
    InvalidInput,
    code="payload_too_large",
    fault="caller",
    http=413,
    grpc="RESOURCE_EXHAUSTED",
    exit=65,
):
    """The tensors do not fit the channel's arena or the server's limit."""

    reply_bytes: int = 0
    """Where the answer was too large: the size of the output that did not fit, in bytes."""


class NotFound(MlosError, code="not_found", fault="caller", http=404, grpc="NOT_FOUND", exit=66):
    """No model, plugin or package of that name."""


class AlreadyExists(
    MlosError, code="already_exists", fault="caller", http=409, grpc="ALREADY_EXISTS", exit=73
):
    """The name is taken by something different."""


class PermissionDenied(
    MlosError, code="permission_denied", fault="caller", http=403, grpc="PERMISSION_DENIED", exit=77
):
    """This user may not do that."""


class ConfigError(
    MlosError, code="config", fault="caller", http=400, grpc="INVALID_ARGUMENT", exit=78
):
    """A configuration file, an environment variable or a flag is wrong."""


class Unsupported(
    MlosError, code="unsupported", fault="caller", http=501, grpc="UNIMPLEMENTED", exit=69
):
    """A known feature that this model, plugin or build does not have."""


class Forked(
    MlosError, code="forked", fault="caller", http=400, grpc="FAILED_PRECONDITION", exit=70
):
    """An object of the parent process was used in a forked child."""


class Closed(
    MlosError, code="closed", fault="caller", http=400, grpc="FAILED_PRECONDITION", exit=70
):
    """The client, the handle or the array was closed before."""


class Cancelled(MlosError, code="cancelled", fault="caller", http=499, grpc="CANCELLED", exit=130):
    """The caller, or the end of its connection, cancelled the request."""


# --- time and load --------------------------------------------------------------------


class Overloaded(
    MlosError,
    code="overloaded",
    fault="server",
    http=429,
    grpc="RESOURCE_EXHAUSTED",
    exit=75,
    retryable=True,
):
    """A bounded queue is full. Try again later, or ask to wait."""

    reply_bytes: int = 0
    """Where held answers fill the reply arena: the size of the output that found no room."""

    request_bytes: int = 0
    """Where the request arena is full: the size of the tensor that found no room."""


class DeadlineExceeded(
    MlosError,
    code="deadline_exceeded",
    fault="server",
    http=504,
    grpc="DEADLINE_EXCEEDED",
    exit=75,
    retryable=True,
):
    """The deadline passed before the answer came."""


# --- the model or its plugin is at fault ----------------------------------------------


class ModelFailed(
    MlosError, code="model_failed", fault="model", http=500, grpc="INTERNAL", exit=70
):
    """The plugin raised while it computed this request."""


class Quarantined(MlosError, code="quarantined", fault="model", http=500, grpc="ABORTED", exit=70):
    """This request ended its worker again and again and is not tried any more."""


class LoadFailed(
    MlosError, code="load_failed", fault="model", http=400, grpc="FAILED_PRECONDITION", exit=65
):
    """The model could not be loaded."""


class PluginBroken(
    MlosError, code="plugin_broken", fault="model", http=500, grpc="FAILED_PRECONDITION", exit=69
):
    """The plugin does not import, or does not keep its contract."""


# --- the server or the machine is at fault --------------------------------------------


class Unavailable(
    MlosError,
    code="unavailable",
    fault="server",
    http=503,
    grpc="UNAVAILABLE",
    exit=69,
    retryable=True,
):
    """The daemon, or every worker of the model, is gone or not ready."""


class OutOfMemory(
    MlosError,
    code="out_of_memory",
    fault="environment",
    http=507,
    grpc="RESOURCE_EXHAUSTED",
    exit=71,
):
    """The machine has not enough (shared) memory for what was asked."""


class ProtocolError(MlosError, code="protocol", fault="server", http=500, grpc="INTERNAL", exit=76):
    """The other side sent something that is not the protocol."""


class ChannelBroken(
    ProtocolError, code="channel_broken", fault="server", http=500, grpc="DATA_LOSS", exit=76
):
    """The shared segment was truncated, scribbled over or closed by the other side."""
