"""What a database declares: tables with their keys and columns, and a hash of the whole."""

from __future__ import annotations

import string
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import apsw
from blake3 import blake3

from b2m.sqlite.connect import quote_name

Generated = Literal["", "virtual", "stored"]
_HIDDEN: dict[int, Generated] = {2: "virtual", 3: "stored"}
_COLLATIONS = {"", "BINARY", "NOCASE", "RTRIM"}
_FOLD = {ord(upper): upper.lower() for upper in string.ascii_uppercase}
_ROWID_NAMES = ("rowid", "_rowid_", "oid")


@dataclass(frozen=True)
class Column:
    """One column; `pk` is its 1-based position in the primary key or 0, `collation` BINARY unless declared."""

    name: str
    type: str
    pk: int
    generated: Generated
    collation: str
    not_null: bool


@dataclass(frozen=True)
class Table:
    """One table; `key` is empty for a table that declares no primary key.

    `key_collations` are those of the key's index ("" for an integer primary key, which has none);
    `unknown` are collations of the key that no loaded code defines; `shadow_of` names the virtual table it belongs to.
    """

    name: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    key_collations: tuple[str, ...]
    without_rowid: bool
    virtual: bool
    shadow_of: str | None
    strict: bool
    unknown: tuple[str, ...]
    sql: str

    @property
    def rowid(self) -> bool:
        """Whether rows have a rowid."""
        return not self.without_rowid and not self.virtual

    @property
    def label(self) -> str:
        """The name that reports use: of the virtual table, for its shadow tables."""
        return self.shadow_of or self.name

    @cached_property
    def values(self) -> tuple[str, ...]:
        """Names of the columns that are stored by their writer: all but the generated ones."""
        return tuple(column.name for column in self.columns if not column.generated)

    @property
    def integer_key(self) -> bool:
        """Whether the key is the rowid itself (INTEGER PRIMARY KEY)."""
        return self.key_collations == ("",)

    @property
    def nullable_key(self) -> bool:
        """Whether rows may have NULL in the key, as SQLite allows in rowid tables."""
        if self.without_rowid or self.integer_key:
            return False
        return any(column.pk and not column.not_null for column in self.columns)

    @property
    def comparable(self) -> bool:
        """Whether rows can be told apart by key."""
        return bool(self.key) and not self.unknown

    @property
    def rowid_name(self) -> str | None:
        """A name for the implicit rowid that no column hides; None without one, or with an integer key."""
        if not self.rowid or self.integer_key:
            return None
        taken = {column.name.lower() for column in self.columns}
        return next((name for name in _ROWID_NAMES if name not in taken), None)


@dataclass(frozen=True)
class Entry:
    """One row of sqlite_schema."""

    type: str
    name: str
    table: str
    sql: str


@dataclass(frozen=True)
class Schema:
    """All tables by name, all entries of sqlite_schema but SQLite's own bookkeeping, and a hash over those."""

    tables: Mapping[str, Table]
    entries: tuple[Entry, ...]
    encoding: str
    user_version: int
    application_id: int

    @property
    def indexes(self) -> dict[str, Entry]:
        """Indexes by name."""
        return {entry.name: entry for entry in self.entries if entry.type == "index"}

    @property
    def triggers(self) -> dict[str, Entry]:
        """Triggers by name."""
        return {entry.name: entry for entry in self.entries if entry.type == "trigger"}

    @property
    def views(self) -> dict[str, Entry]:
        """Views by name."""
        return {entry.name: entry for entry in self.entries if entry.type == "view"}

    @cached_property
    def hash(self) -> str:
        """BLAKE3 over (type, name, table, sql) of every entry, sorted: VACUUM and ANALYZE do not change it."""
        digest = blake3()
        for entry in self.entries:
            for text in (entry.type, entry.name, entry.table, entry.sql):
                data = text.encode("utf-8", "surrogatepass")
                digest.update(len(data).to_bytes(8, "big") + data)
        return digest.hexdigest()


def folded(name: str) -> str:
    """Return a name as SQLite compares it: without the case of ASCII letters, and of those only."""
    return name.translate(_FOLD)


def read_schema(conn: apsw.Connection, schema: str = "main") -> Schema:
    """Read what the database attached as `schema` declares."""
    name = quote_name(schema)
    try:
        rows = conn.execute(f"SELECT type, name, tbl_name, coalesce(sql, '') FROM {name}.sqlite_schema").fetchall()
    except UnicodeDecodeError:  # a comment in another encoding, say
        raw = conn.execute(f"SELECT type, name, tbl_name, CAST(coalesce(sql, '') AS BLOB) FROM {name}.sqlite_schema")
        rows = [(*row[:3], bytes(row[3]).decode(errors="surrogateescape")) for row in raw]
    entries = sorted(
        (Entry(*(str(value) for value in row)) for row in rows if not str(row[1]).startswith("sqlite_")),
        key=lambda entry: (entry.type, entry.name),
    )
    return Schema(
        tables={table.name: table for table in _tables(conn, schema, entries)},
        entries=tuple(entries),
        encoding=str(conn.execute("PRAGMA encoding").get),
        user_version=_number(conn, schema, "user_version"),
        application_id=_number(conn, schema, "application_id"),
    )


def _number(conn: apsw.Connection, schema: str, pragma: str) -> int:
    row = conn.execute(f"PRAGMA {quote_name(schema)}.{pragma}").fetchone()
    return int(str(row[0])) if row else 0


def _tables(conn: apsw.Connection, schema: str, entries: list[Entry]) -> Iterator[Table]:
    found = conn.execute(f"PRAGMA {quote_name(schema)}.table_list").fetchall()
    kinds = {str(name): (str(kind), bool(wr), bool(strict)) for _, name, kind, _, wr, strict in found}
    virtual = [entry.name for entry in entries if entry.type == "table" and _is_virtual(entry.sql)]
    unloaded = {name for name in virtual if not _module_loaded(conn, schema, name)}
    for entry in entries:
        if entry.type != "table":
            continue
        kind, without_rowid, strict = kinds.get(entry.name, ("table", False, False))
        owner = None if entry.name in virtual else _owner(entry.name, virtual if kind == "shadow" else unloaded)
        columns = () if entry.name in unloaded else tuple(_columns(conn, schema, entry.name))
        key = tuple(column.name for column in sorted(columns, key=lambda column: column.pk) if column.pk)
        collations = () if entry.name in virtual else _key_collations(conn, schema, entry.name, len(key))
        yield Table(
            name=entry.name,
            columns=columns,
            key=() if entry.name in virtual else key,
            key_collations=collations,
            without_rowid=without_rowid,
            virtual=entry.name in virtual,
            shadow_of=owner,
            strict=strict,
            unknown=tuple(name for name in collations if not _collation_loaded(conn, name)),
            sql=entry.sql,
        )


def _is_virtual(sql: str) -> bool:
    return sql[:21].upper().split()[:2] == ["CREATE", "VIRTUAL"]


def _owner(name: str, virtual: list[str] | set[str]) -> str | None:
    """The virtual table with the longest name that `name` continues; without its module SQLite cannot tell."""
    return max((each for each in virtual if name.lower().startswith(f"{each.lower()}_")), key=len, default=None)


def _collation_loaded(conn: apsw.Connection, name: str) -> bool:
    """PRAGMA collation_list will not do: it lists what the schema mentions, defined or not."""
    if name.upper() in _COLLATIONS:
        return True
    try:
        conn.execute(f"EXPLAIN SELECT 'a' < 'b' COLLATE {quote_name(name)}").fetchall()
    except apsw.Error:
        return False
    return True


def _module_loaded(conn: apsw.Connection, schema: str, table: str) -> bool:
    try:
        conn.execute(f"PRAGMA {quote_name(schema)}.table_xinfo({quote_name(table)})").fetchall()
    except apsw.Error:
        return False
    return True


def _columns(conn: apsw.Connection, schema: str, table: str) -> Iterator[Column]:
    try:
        rows = conn.execute(f"PRAGMA {quote_name(schema)}.table_xinfo({quote_name(table)})").fetchall()
    except UnicodeDecodeError:  # a default in another encoding
        sql = 'SELECT cid, name, type, "notnull", NULL, pk, hidden FROM pragma_table_xinfo(?, ?)'
        rows = conn.execute(sql, (table, schema)).fetchall()
    for _, name, declared, not_null, _, pk, hidden in rows:
        try:
            collation = conn.column_metadata(schema, table, str(name))[1]
        except apsw.Error:
            collation = "BINARY"
        generated = _HIDDEN.get(int(str(hidden)), "")
        yield Column(str(name), str(declared or ""), int(str(pk)), generated, str(collation), bool(not_null))


def _key_collations(conn: apsw.Connection, schema: str, table: str, width: int) -> tuple[str, ...]:
    if not width:
        return ()
    prefix = f"PRAGMA {quote_name(schema)}"
    for row in conn.execute(f"{prefix}.index_list({quote_name(table)})").fetchall():
        if row[3] == "pk":
            parts = conn.execute(f"{prefix}.index_xinfo({quote_name(str(row[1]))})").fetchall()
            return tuple(str(part[4]) for part in parts[:width])
    return ("",)


def differences(old: Schema, new: Schema) -> list[str]:
    """Name every entry that was added, removed or declared otherwise, and changed version numbers."""
    before = {(entry.type, entry.name): entry for entry in old.entries}
    after = {(entry.type, entry.name): entry for entry in new.entries}
    found = [f"{kind} {name} removed" for kind, name in before if (kind, name) not in after]
    found += [f"{kind} {name} added" for kind, name in after if (kind, name) not in before]
    found += [f"{kind} {name} changed" for (kind, name), was in before.items() if after.get((kind, name), was) != was]
    for what in ("user_version", "application_id", "encoding"):
        if getattr(old, what) != getattr(new, what):
            found.append(f"{what} {getattr(old, what)} -> {getattr(new, what)}")
    return found
