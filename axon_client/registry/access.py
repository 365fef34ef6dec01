# SPDX-License-Identifier: BUSL-1.1
"""Who may do what: from the Authorization header to a yes or an error."""

from __future__ import annotations

import base64
import binascii

import msgspec

from axon_client.registry.problems import Unauthenticated
from axon_client.registry.tokens import Token, Tokens
from mlos_core.errors import PermissionDenied


class Identity(msgspec.Struct, frozen=True):
    """Who asks; without a token, anybody."""

    token: Token | None = None

    @property
    def id(self) -> str:
        """The token's id, or nothing."""
        return self.token.id if self.token else ""


class Access:
    """Checks requests against the tokens.

    Args:
        tokens: those that are known.
        private: whether reading needs a token, too.
    """

    def __init__(self, tokens: Tokens, private: bool = False) -> None:
        self._tokens = tokens
        self.private = private

    def identify(self, authorization: str | None) -> Identity:
        """Who sent this header: `Bearer <token>`, or `Basic` with the token as password.

        Raises:
            Unauthenticated: it holds something, but no token that is valid.
        """
        if not authorization:
            return Identity()
        token = self._tokens.find(_secret(authorization))
        if token is None:
            raise Unauthenticated(
                "this token is unknown, revoked or expired",
                hint="log in again with 'axon registry login'",
            )
        return Identity(token)

    def require(self, authorization: str | None, scope: str) -> Identity:
        """Let a request pass that has the scope `read`, `publish:<namespace>` or `admin`.

        Raises:
            Unauthenticated: a token is needed.
            PermissionDenied: the token does not allow it.
        """
        identity = self.identify(authorization)
        if scope == "read" and not self.private:
            return identity
        if identity.token is None:
            raise Unauthenticated("this needs a token", hint="log in with 'axon registry login'")
        if not identity.token.allows(scope):
            raise PermissionDenied(
                f"the token {identity.token.label!r} lacks the scope {scope}",
                hint="ask the registry's administrator for a token that has it",
            )
        return identity


def _secret(authorization: str) -> str:
    kind, _, value = authorization.strip().partition(" ")
    if kind.lower() != "basic":
        return value.strip() if kind.lower() == "bearer" else ""
    try:
        pair = base64.b64decode(value.strip(), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return ""
    return pair.partition(":")[2]
