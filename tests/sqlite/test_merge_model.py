"""The merge against a model of itself in plain Python: random base, random edits on both sides."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import apsw
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from b2m.errors import Conflict, VerifyFailed
from b2m.sqlite.diff import compare
from b2m.sqlite.merge import Rule, Rules, replay
from b2m.sqlite.rules import OnConflict
from b2m.sqlite.snapshot import copy_file
from b2m.sqlite.verify import check_integrity, verify_rows
from tests.support.settings import trials

Value = int | float | str | bytes | None
Row = tuple[Value, ...]
State = Mapping[str, Mapping[object, Row]]

SCHEMA = (
    "CREATE TABLE t(id INTEGER PRIMARY KEY AUTOINCREMENT, a, b)",
    "CREATE TABLE n(k TEXT COLLATE NOCASE PRIMARY KEY NOT NULL, u UNIQUE, v, w AS (u || v))",
    "CREATE TABLE w(x, y REAL, z COLLATE NOCASE, PRIMARY KEY (x, y)) WITHOUT ROWID",
    "CREATE TRIGGER boom AFTER UPDATE ON t BEGIN DELETE FROM n; END",
)
COLUMNS = {"t": ("id", "a", "b"), "n": ("k", "u", "v"), "w": ("x", "y", "z")}
NEWEST_BY = {"t": 1, "n": 2, "w": 2}


def some(chosen: Sequence[Value]) -> st.SearchStrategy[Value]:
    return st.sampled_from(chosen)


values = some([None, 0, 1, 1.0, 2, "a", "A", "1", b"a", b""])
rows: Mapping[str, st.SearchStrategy[Row]] = {
    "t": st.tuples(st.integers(1, 5), values, values),
    "n": st.tuples(st.sampled_from(["a", "A", "b", "B", "c"]), values, values),
    "w": st.tuples(some([1, "p", b"p"]), st.sampled_from([1.0, 2.5]), values),
}


def key_of(table: str, row: Row) -> object:
    if table == "t":
        return row[0]
    return str(row[0]).lower() if table == "n" else row[:2]


def unique(found: Mapping[object, Row], table: str) -> bool:
    """Whether n.u has no duplicates; to UNIQUE, 1 is 1.0."""
    taken = [row[1] for row in found.values() if row[1] is not None]
    return table != "n" or len(taken) == len(set(taken))


@st.composite
def states(draw: st.DrawFn) -> State:
    made = {}
    for table, shape in rows.items():
        found: dict[object, Row] = {}
        for row in draw(st.lists(shape, max_size=6)):
            changed = {**found, key_of(table, row): row}
            if unique(changed, table):
                found = changed
        made[table] = found
    return made


@st.composite
def edits(draw: st.DrawFn, start: State) -> State:
    made = {}
    for table, shape in rows.items():
        found = dict(start[table])
        for row, gone in draw(st.lists(st.tuples(shape, st.booleans()), max_size=4)):
            changed = dict(found)
            if gone:
                changed.pop(key_of(table, row), None)
            else:
                changed[key_of(table, row)] = row
            if unique(changed, table):
                found = changed
        made[table] = found
    return made


@st.composite
def histories(draw: st.DrawFn) -> tuple[State, State, State]:
    base = draw(states())
    return base, draw(edits(base)), draw(edits(base))


def exact(row: Row | None) -> object:
    """A row with the types of its values, since 1 == 1.0 in Python."""
    return None if row is None else tuple((type(value), value) for value in row)


def rank(value: Value) -> tuple[int, Value]:
    """SQLite's order between types: numbers, text, blobs."""
    return (0 if isinstance(value, int | float) else 1 if isinstance(value, str) else 2), value


@dataclass
class Model:
    """The merge in memory: `state` is the result, `conflicts` counts what no rule settles."""

    state: dict[str, dict[object, Row]]
    conflicts: int = 0
    resolved: int = 0


def merged(base: State, ours: State, theirs: State, rule: OnConflict) -> Model:
    model = Model({table: dict(theirs[table]) for table in COLUMNS})
    for table in COLUMNS:
        for key in {*base[table], *ours[table]}:
            b, o, c = (side[table].get(key) for side in (base, ours, theirs))
            if exact(b) == exact(o) or exact(c) == exact(o):
                continue
            row, clash = three_way(b, o, c)
            if clash:
                winner = settle(o, c, rule, NEWEST_BY[table])
                if winner is None:
                    model.conflicts += 1
                    continue
                model.resolved += 1
                row = o if winner == "ours" else c
            if row is None:
                model.state[table].pop(key, None)
            else:
                model.state[table][key] = row
    return model


def three_way(b: Row | None, o: Row | None, c: Row | None) -> tuple[Row | None, bool]:
    if exact(c) == exact(b):
        return o, False
    if b is None or o is None or c is None:
        return None, True
    found = []
    for before, our, their in zip(b, o, c, strict=True):
        if exact((our,)) == exact((before,)) or exact((our,)) == exact((their,)):
            found.append(their)
        elif exact((their,)) == exact((before,)):
            found.append(our)
        else:
            return None, True
    return tuple(found), False


def settle(o: Row | None, c: Row | None, rule: OnConflict, by: int) -> str | None:
    if rule in ("ours", "theirs"):
        return rule
    if rule == "fail" or o is None or c is None or o[by] is None or c[by] is None:
        return None
    our, their = rank(o[by]), rank(c[by])
    if our == their:
        return None
    return "ours" if our > their else "theirs"


def write(path: Path, state: State) -> Path:
    conn = apsw.Connection(str(path))
    conn.pragma("synchronous", "off")
    with conn:
        for statement in SCHEMA:
            conn.execute(statement)
        for table, columns in COLUMNS.items():
            for row in state[table].values():
                conn.execute(f"INSERT INTO {table}({', '.join(columns)}) VALUES (?, ?, ?)", row)
    conn.close()
    return path


def read(path: Path) -> dict[str, dict[object, object]]:
    conn = apsw.Connection(str(path))
    found = {
        table: {key_of(table, row): exact(row) for row in conn.execute(f"SELECT {', '.join(columns)} FROM {table}")}
        for table, columns in COLUMNS.items()
    }
    conn.close()
    return found


@settings(max_examples=trials(150, 3000), deadline=None, suppress_health_check=list(HealthCheck))
@given(histories(), st.sampled_from(["fail", "ours", "theirs", "newest"]))
def test_a_merge_is_what_the_model_says(history: tuple[State, State, State], on_conflict: OnConflict) -> None:
    base_state, ours_state, theirs_state = history
    expected = merged(*history, on_conflict)
    rule_of = {table: Rule(on_conflict, COLUMNS[table][by]) for table, by in NEWEST_BY.items()}
    rules = Rules(tables=rule_of, max_deletes_share=1.0)
    with tempfile.TemporaryDirectory() as folder:
        base, ours, head = (
            write(Path(folder) / name, state)
            for name, state in (("base", base_state), ("ours", ours_state), ("head", theirs_state))
        )
        candidate, forward = Path(folder) / "candidate", Path(folder) / "forward"
        copy_file(head, candidate)
        copy_file(base, forward)
        if expected.conflicts or not unique(expected.state["n"], "n"):
            with pytest.raises(Conflict) as caught:
                replay("ipm", base, ours, candidate, rules, forward=forward)
            assert caught.value.conflicts
            if expected.conflicts:
                assert len(caught.value.conflicts) == expected.conflicts
            assert candidate.read_bytes() == head.read_bytes()
            return
        done = replay("ipm", base, ours, candidate, rules, forward=forward)
        assert read(candidate) == {
            table: {key: exact(row) for key, row in found.items()} for table, found in expected.state.items()
        }
        assert done.total == compare(head, candidate).counts
        assert sum(done.resolved.values()) == expected.resolved
        assert not compare(forward, ours).dirty
        assert check_integrity(candidate) == []
        verify_rows(base, ours, head, candidate, bool(expected.resolved))
        spoil(candidate)
        with pytest.raises(VerifyFailed):
            verify_rows(base, ours, head, candidate, bool(expected.resolved))


def spoil(path: Path) -> None:
    """Add a row that neither side has, as a merge with a bug would."""
    conn = apsw.Connection(str(path))
    conn.execute("INSERT INTO t(id, a) VALUES (99, 'nobody wrote this')")
    conn.close()
