# SPDX-License-Identifier: BUSL-1.1
"""Bounds for what a hub answers, and its failures in our words.

huggingface_hub sets neither a deadline nor a limit for an answer about a repository, and a
hub may be anybody's. Lists it asks for again and again, for as long as the hub says: a failure
is raised as one that it does not know how to wait for. Imports huggingface_hub, so only who
talks to a hub imports this.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, cast
from urllib.parse import urlsplit

import httpx2
from huggingface_hub import errors as kinds
from huggingface_hub import get_session, hf_raise_for_status

from mlos_core.errors import ConfigError, InvalidInput, MlosError, ProtocolError, Unavailable

STALL_S: Final = 30.0
"""Without a byte, in seconds."""
ANSWER_S: Final = 120.0
"""For one answer."""
MOST_BYTES: Final = 64 << 20
"""Of one answer."""
MOST_ANSWERS: Final = 200
"""To one question, which may take several pages."""
_TRIED_AGAIN: Final = frozenset({408, 429, 500, 502, 503, 504})
_NO_HUB: Final = (
    LookupError, ValueError, TypeError, AttributeError, RecursionError, httpx2.HTTPError
)  # fmt: skip


class _Bounded(httpx2.SyncByteStream):
    """A body that ends with an error if it is too long or too slow."""

    def __init__(self, stream: httpx2.SyncByteStream, endpoint: str) -> None:
        self._stream = stream
        self._endpoint = endpoint
        self._deadline = time.monotonic() + ANSWER_S

    def __iter__(self) -> Iterator[bytes]:
        count = 0
        for block in self._stream:
            count += len(block)
            if count > MOST_BYTES:
                raise ProtocolError(f"{self._endpoint} answers with more than {MOST_BYTES} bytes")
            if time.monotonic() > self._deadline:
                raise Unavailable(f"{self._endpoint} takes more than {ANSWER_S:g} s for an answer")
            yield block

    def close(self) -> None:
        self._stream.close()


@contextmanager
def bounded(endpoint: str) -> Iterator[None]:
    """Within the block, answers of the hub's interface have a deadline and a limit."""
    client = get_session()
    timeout, hooks = client.timeout, client.event_hooks
    count = 0

    def bound(response: httpx2.Response) -> None:
        nonlocal count
        if not str(response.url).startswith(f"{endpoint}/api/"):
            return
        count += 1
        if count > MOST_ANSWERS:
            raise ProtocolError(f"{endpoint} has more than {MOST_ANSWERS} pages for one question")
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise ProtocolError(f"{endpoint} compresses an answer, which it was asked not to do")
        stream = cast("httpx2.SyncByteStream", response.stream)
        response.stream = _Bounded(stream, endpoint)

    client.timeout = httpx2.Timeout(STALL_S)
    client.event_hooks = {**hooks, "response": [*hooks.get("response", []), bound]}
    own = vars(client)
    own["send"] = _once(client.send, endpoint)
    try:
        yield
    finally:
        client.timeout, client.event_hooks = timeout, hooks
        del own["send"]


def _once(send: Callable[..., httpx2.Response], endpoint: str) -> Callable[..., httpx2.Response]:
    """Sends a request, and raises what huggingface_hub would try again."""

    def sending(request: httpx2.Request, **options: Any) -> httpx2.Response:
        try:
            response = send(request, **options)
        except httpx2.TransportError as error:
            raise _unreachable(endpoint, error) from error
        if response.status_code in _TRIED_AGAIN:
            response.read()
            hf_raise_for_status(response)
        return response

    return sending


def _unreachable(endpoint: str, error: Exception) -> MlosError:
    return Unavailable(
        f"{urlsplit(endpoint).hostname} cannot be reached: {error or type(error).__name__}",
        hint="check the network, the proxy and HF_ENDPOINT",
    )


@contextmanager
def explained(endpoint: str) -> Iterator[None]:
    """Turn what is no answer, or not one of a hub, into our errors."""
    try:
        yield
    except (MlosError, kinds.HfHubHTTPError):
        raise
    except kinds.OfflineModeIsEnabled as error:
        raise ConfigError("HF_HUB_OFFLINE forbids asking the hub", hint="unset it") from error
    except kinds.HFValidationError as error:
        raise InvalidInput(
            f"no hub has such a name: {error}", hint="write hf/organisation/model[@revision]"
        ) from error
    except (httpx2.InvalidURL, httpx2.UnsupportedProtocol) as error:
        raise ConfigError(
            f"{endpoint!r} is no URL of a hub: {error}", hint="see HF_ENDPOINT"
        ) from error
    except httpx2.TransportError as error:
        raise _unreachable(endpoint, error) from error
    except _NO_HUB as error:
        raise ProtocolError(
            f"{endpoint} does not answer like a Hugging Face hub: {type(error).__name__}: {error}",
            hint="check HF_ENDPOINT",
        ) from error
