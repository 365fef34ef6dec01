# SPDX-License-Identifier: BUSL-1.1
"""Full-text search with facets. The text of the questions is built here and nowhere else;
what users wrote goes into parameters alone."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Mapping
from typing import Final, Literal

import msgspec

from axon_client.registry.cards import FACETS
from axon_client.registry.database import Database
from axon_client.registry.records import Entry, from_json

Sort = Literal["relevance", "name", "created"]
MAX_WORDS: Final = 16
MOST_S: Final = 10.0
"""Seconds that a search may take; many words of one letter in a large registry would take more."""
FACET_VALUES: Final = 100
_WORD: Final = re.compile(r"\w+")
_COLUMNS: Final = (
    "p.namespace, p.name, p.version, p.description, p.framework, p.format, p.license, p.tags,"
    " p.size, p.updated"
)
_RANK: Final = "bm25(words, 10.0, 1.0, 4.0)"


class Query(msgspec.Struct, frozen=True):
    """What is looked for: words, and for each facet the values of which one must fit."""

    text: str = ""
    facets: Mapping[str, tuple[str, ...]] = {}
    sort: Sort = "relevance"
    limit: int = 20
    offset: int = 0


def match_expression(text: str) -> str:
    """FTS5's expression for packages that have every word, or one that begins with it."""
    words = _WORD.findall(text)[:MAX_WORDS]
    return " ".join(f'"{word}"*' for word in words)


def search(database: Database, query: Query) -> tuple[list[Entry], int]:
    """A page of what fits, and how many fit in all.

    Raises:
        DeadlineExceeded: it took too long.
    """
    tables, where, values = _condition(query)
    order = {
        "relevance": f"(p.name = ? COLLATE NOCASE) DESC, {_RANK}, " if "words" in tables else "",
        "name": "",
        "created": "p.updated DESC, ",
    }[query.sort]
    ranked = [query.text.strip()] if "?" in order else []
    with database.read(MOST_S) as connection:
        total = connection.execute(
            f"SELECT count(*) FROM {tables} WHERE {where}",  # noqa: S608
            values,
        )
        count: int = total.fetchone()[0]
        rows = connection.execute(
            f"SELECT {_COLUMNS} FROM {tables} WHERE {where}"  # noqa: S608
            f" ORDER BY {order}p.name, p.namespace LIMIT ? OFFSET ?",
            [*values, *ranked, query.limit, query.offset],
        )
        return [_entry(row) for row in rows], count


def facets(database: Database, query: Query) -> dict[str, dict[str, int]]:
    """For each facet how many of the packages that fit have which value.

    A facet's own choice does not narrow its counts, so that they show what else there is.

    Raises:
        DeadlineExceeded: it took too long.
    """
    with database.read(MOST_S) as connection:
        return {facet: _count(connection, query, facet) for facet in FACETS}


def everything(database: Database) -> list[Entry]:
    """All packages that search can find, by name."""
    with database.read() as connection:
        rows = connection.execute(
            f"SELECT {_COLUMNS} FROM packages p WHERE p.version <> ''"  # noqa: S608
            " ORDER BY p.namespace, p.name"
        )
        return [_entry(row) for row in rows]


def _count(connection: sqlite3.Connection, query: Query, facet: str) -> dict[str, int]:
    others = {name: wanted for name, wanted in query.facets.items() if name != facet}
    tables, where, values = _condition(msgspec.structs.replace(query, facets=others))
    rows = connection.execute(
        "SELECT min(l.value), count(*) FROM labels l WHERE l.facet = ? AND l.package IN"  # noqa: S608
        f" (SELECT p.id FROM {tables} WHERE {where})"
        " GROUP BY l.value ORDER BY count(*) DESC, l.value LIMIT ?",
        [facet, *values, FACET_VALUES],
    )
    return dict(rows.fetchall())


def _condition(query: Query) -> tuple[str, str, list[object]]:
    tables, where, values = "packages p", ["p.version <> ''"], list[object]()
    if query.text.strip():
        expression = match_expression(query.text)
        tables = "words JOIN packages p ON p.id = words.rowid"
        where.append("words MATCH ?" if expression else "0")
        values += [expression] if expression else []
    for facet in FACETS:
        wanted = query.facets.get(facet, ())
        if wanted:
            marks = ", ".join("?" * len(wanted))
            where.append(
                "p.id IN (SELECT package FROM labels WHERE facet = ?"  # noqa: S608
                f" AND value COLLATE NOCASE IN ({marks}))"
            )
            values += [facet, *wanted]
    return tables, " AND ".join(where), values


def _entry(row: sqlite3.Row) -> Entry:
    fields = {key: row[key] for key in row.keys() if key not in ("tags", "updated")}  # noqa: SIM118
    return Entry(**fields, tags=from_json(row["tags"]), created=row["updated"])
