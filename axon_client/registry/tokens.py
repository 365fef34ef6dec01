# SPDX-License-Identifier: BUSL-1.1
"""Tokens: who holds one, and what it allows.

A token is `axon_<id>_<secret>`. The database keeps the id and the SHA-256 of the secret,
which has 256 random bits, so that nothing needs to be slow to be safe; it is compared in
constant time.
"""

from __future__ import annotations

import datetime
import hashlib
import hmac
import re
import secrets
import sqlite3
from collections.abc import Sequence
from typing import Final

import msgspec

from axon_client.registry.database import Database
from axon_client.registry.records import from_json, to_json
from mlos_core.errors import InvalidInput, NotFound

_FORM: Final = re.compile(r"axon_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")
_SCOPE: Final = re.compile(r"read|admin|publish:(\*|[A-Za-z0-9][A-Za-z0-9._-]{0,127})")
MAX_TOKENS: Final = 10_000
_MAX_DAYS: Final = 36_500


class Token(msgspec.Struct, frozen=True):
    """A token without its secret. `expires` is empty if it never does."""

    id: str
    label: str
    scopes: list[str]
    created: str
    expires: str = ""

    def allows(self, scope: str) -> bool:
        """Whether it is good for `read`, `publish:<namespace>`, any `publish`, or `admin`."""
        if "admin" in self.scopes or scope == "read" or scope in self.scopes:
            return True
        if scope == "publish":
            return any(own.startswith("publish:") for own in self.scopes)
        return scope.startswith("publish:") and "publish:*" in self.scopes


class Tokens:
    """The tokens in a registry's database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(
        self, label: str, scopes: Sequence[str], days: float | None = None
    ) -> tuple[str, Token]:
        """Make a token; gives its text, which is kept nowhere, and its record.

        Raises:
            InvalidInput: a scope is unknown, the time is none, or there are too many tokens.
        """
        _check(label, scopes)
        if days is not None and not 0 <= days <= _MAX_DAYS:
            raise InvalidInput(f"a token cannot last {days} days", hint=f"0 to {_MAX_DAYS}")
        key, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
        token = Token(key, label, sorted(set(scopes)), self._database.now(), self._end(days))
        with self._database.write() as connection:
            if connection.execute("SELECT count(*) FROM tokens").fetchone()[0] >= MAX_TOKENS:
                raise InvalidInput(f"there are {MAX_TOKENS} tokens", hint="revoke some")
            connection.execute(
                "INSERT INTO tokens (id, label, hash, scopes, created, expires)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                (key, label, _hash(secret), to_json(token.scopes), token.created, token.expires),
            )
        return f"axon_{key}_{secret}", token

    def _end(self, days: float | None) -> str:
        if days is None:
            return ""
        end = datetime.datetime.fromisoformat(self._database.now()) + datetime.timedelta(days=days)
        return end.strftime("%Y-%m-%dT%H:%M:%SZ")

    def find(self, text: str) -> Token | None:
        """The token that was presented, if it is known and not expired."""
        form = _FORM.fullmatch(text)
        if form is None:
            return None
        with self._database.read() as connection:
            row = connection.execute("SELECT * FROM tokens WHERE id = ?", (form[1],)).fetchone()
        known = bytes(row["hash"]) if row else bytes(32)
        if not hmac.compare_digest(known, _hash(form[2])) or row is None:
            return None
        if row["expires"] and row["expires"] <= self._database.now():
            return None
        return _token(row)

    def all(self) -> list[Token]:
        """Every token, the oldest first."""
        with self._database.read() as connection:
            rows = connection.execute("SELECT * FROM tokens ORDER BY created, id")
            return [_token(row) for row in rows]

    def revoke(self, key: str) -> None:
        """Forget a token.

        Raises:
            NotFound: no token has that id.
        """
        with self._database.write() as connection:
            done = connection.execute("DELETE FROM tokens WHERE id = ?", (key,))
        if not done.rowcount:
            raise NotFound(
                f"there is no token {key!r}", hint="'axon registry token list' shows their ids"
            )


def _token(row: sqlite3.Row) -> Token:
    return Token(row["id"], row["label"], from_json(row["scopes"]), row["created"], row["expires"])


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


def _check(label: str, scopes: Sequence[str]) -> None:
    if not 0 < len(label) <= 100 or not label.isprintable():
        raise InvalidInput(f"{label[:100]!r} is no name for a token", hint="1 to 100 characters")
    if not scopes or len(scopes) > 100:
        raise InvalidInput("a token has between 1 and 100 scopes")
    for scope in scopes:
        if not _SCOPE.fullmatch(scope):
            raise InvalidInput(
                f"{scope!r} is no scope", hint="read, publish:<namespace>, publish:* or admin"
            )
