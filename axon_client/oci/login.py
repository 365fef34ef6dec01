# SPDX-License-Identifier: BUSL-1.1
"""Who asks: an OCI registry names a place that makes tokens, and what they must be for.

Guarantees: a credential is shown to the registry that it is kept for and to the token service
that this registry names, over https unless the registry itself is asked without; a token is
shown to the registry alone, and no login of another host is used to get it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from urllib.parse import urlencode, urlsplit

import msgspec

from axon_client import credentials
from axon_client.credentials import Credential
from axon_client.net import Options
from axon_client.net.access import in_netrc, origin
from axon_client.net.small import get_json
from axon_client.oci import docker_config
from axon_client.oci.challenge import Challenge, parse
from mlos_core.errors import PermissionDenied, ProtocolError

_MOST: Final = 1 << 20
_ANY_USER: Final = "token"
"""Token services want a user's name, and of a bare token none cares which."""


class _Reply(msgspec.Struct, frozen=True):
    token: str = ""
    access_token: str = ""


class Login:
    """Answers the challenges of the registry at `url`, and remembers what it answered."""

    def __init__(self, url: str, options: Options) -> None:
        self._url = url
        self._options = options
        self._headers: dict[str, dict[str, str]] = {}

    def headers(self, scope: str) -> dict[str, str]:
        """What goes with a request of this scope, as far as is known yet."""
        return self._headers.get(scope, {})

    def answer(self, header: str, scope: str) -> bool:
        """Find an answer to a challenge; False if there is none but what was sent.

        Args:
            header: the registry's `WWW-Authenticate`.
            scope: what is asked for, such as `repository:org/model:pull`.

        Raises:
            PermissionDenied: the token service refuses.
            ProtocolError: it answers with something else.
        """
        before = self._headers.pop(scope, None)
        for challenge in parse(header):
            if challenge.scheme == "bearer" and challenge.realm:
                self._headers[scope] = {"Authorization": f"Bearer {self._token(challenge, scope)}"}
                return True
            kept = self._kept()
            if challenge.scheme == "basic" and kept and before is None:
                self._headers[scope] = _basic(kept)
                return True
        return False

    def _kept(self) -> Credential | None:
        found = credentials.find(self._url)
        if found:
            return found
        parts = urlsplit(self._url)
        pair = in_netrc(parts.hostname or "")
        return Credential(pair[1], pair[0]) if pair else docker_config.find(parts.netloc)

    def _token(self, challenge: Challenge, scope: str) -> str:
        realm = urlsplit(challenge.realm)
        if realm.scheme != "https" and origin(self._url)[0] == "https":
            raise ProtocolError(
                f"{self._url} wants its tokens made at {challenge.realm}, which is not https"
            )
        wanted = {"service": challenge.service, "scope": scope}
        query = urlencode({key: value for key, value in wanted.items() if value})
        url = realm._replace(query="&".join(filter(None, (realm.query, query))), fragment="")
        kept = self._kept()
        headers: Mapping[str, str] = _basic(kept) if kept else {}
        # The registry is shown the token. So it must not be one that is made for the user
        # because the place it names, or leads on to, is another that knows the user.
        reply = get_json(url.geturl(), _MOST, headers=headers, options=self._options, kept=False)
        try:
            tokens = msgspec.convert(reply, _Reply)
        except msgspec.ValidationError as error:
            raise ProtocolError(f"{realm.netloc} makes no tokens: {error}") from error
        token = tokens.token or tokens.access_token
        if not token:
            raise PermissionDenied(f"{realm.netloc} gives no token for {scope}")
        if not token.isascii() or not token.isprintable() or " " in token:
            raise ProtocolError(f"{realm.netloc} gives a token that is none")
        return token


def _basic(kept: Credential) -> dict[str, str]:
    return Credential(kept.token, kept.username or _ANY_USER).headers
