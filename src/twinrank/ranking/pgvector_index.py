"""The answer index in PostgreSQL, by its extension pgvector.

Of the name `twinrank` and a ranker whose fingerprint begins with 3f9a0c12be77 there are

    twinrank_3f9a0c12be77_new   a table that is being made, which nobody searches
    twinrank_3f9a0c12be77       the same once it is whole, renamed in one transaction
"""

# ruff: noqa: S608 (names of tables are checked, and digits)

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from twinrank.errors import AnswerIndexError, first_line
from twinrank.ranking.answer_index import DIGITS, Keys, PostgresPlace, group_hits, no_index
from twinrank.ranking.reader import Passages

if TYPE_CHECKING:
    from sqlalchemy.engine import URL, Connection, Engine

MAX_EXACT_VECTORS = 20_000  # chosen from the measurements in docs/measurements/speed.md
MAX_EXACT_KEYS = 200_000
MAX_GRAPH_DIM = 2_000  # of pgvector; wider vectors are searched exactly
LINKS, BUILD_BREADTH, SEARCH_BREADTH = 16, 100, 128  # HNSW's m, ef_construction, ef_search
MAX_SEARCH_BREADTH = 1_000  # of pgvector, which goes further in steps where a search needs more
CONNECT_S = 10
COPY_BEGIN, COPY_END = b"PGCOPY\n\xff\r\n\0" + bytes(8), b"\xff\xff"
NEW = "_new"


class PgvectorIndex:
    """A table with one row a passage; see `AnswerIndex` for the methods.

    Up to 20,000 vectors are compared one by one, more by HNSW, which `settle` builds. Where keys
    select up to 200,000 answers, or HNSW gives fewer than there are, that is exact, too.
    """

    def __init__(self, place: PostgresPlace, fingerprint: str) -> None:
        self.place, self.alias = place, f"{place.name}_{fingerprint[:DIGITS]}"
        self.table = self.alias
        self._engine = _create_engine(place.address)

    @classmethod
    def open(cls, place: PostgresPlace, fingerprint: str) -> PgvectorIndex:
        """Open the table that was published for a ranker."""
        index = cls(place, fingerprint)
        with index._begin() as connection:
            tables = index._tables(connection)
        if index.alias not in tables:
            raise no_index(place, [name for name in tables if not name.endswith(NEW)])
        return index

    @classmethod
    def create(cls, place: PostgresPlace, fingerprint: str, *, dim: int) -> PgvectorIndex:
        """Make an empty table of vectors `dim` wide, which nobody searches yet.

        What a kill left of others that were not published is removed.
        """
        index = cls(place, fingerprint)
        index.table += NEW
        columns = f"(answer bigint NOT NULL, vector vector({dim}) NOT NULL)"
        with index._begin() as connection:
            leftovers = [name for name in index._tables(connection) if name.endswith(NEW)]
            for statement in (
                *(f'DROP TABLE "{name}"' for name in leftovers),
                "CREATE EXTENSION IF NOT EXISTS vector",
                f'CREATE TABLE "{index.table}" {columns}',
                f'CREATE INDEX ON "{index.table}" (answer)',
            ):
                connection.exec_driver_sql(statement)
        return index

    def add(self, keys: Keys, passages: Passages[np.ndarray]) -> None:
        """See `AnswerIndex.add`; in the binary form of COPY and of pgvector."""
        dim = passages.rows.shape[1]
        layout = [("fields", ">i2"), ("key_size", ">i4"), ("key", ">i8")]
        layout += [("size", ">i4"), ("dim", ">i2"), ("unused", ">i2")]
        rows = np.zeros(len(passages.rows), [*layout, ("vector", ">f4", (dim,))])
        rows["fields"], rows["key_size"], rows["size"], rows["dim"] = 2, 8, 4 + 4 * dim, dim
        rows["key"], rows["vector"] = keys[passages.owners], passages.rows
        statement = f'COPY "{self.table}" (answer, vector) FROM STDIN (FORMAT BINARY)'
        with self._begin() as connection:
            driver: Any = connection.connection.driver_connection
            with driver.cursor() as cursor, cursor.copy(statement) as copy:
                copy.write(COPY_BEGIN + rows.tobytes() + COPY_END)

    def remove(self, keys: Keys) -> None:
        """See `AnswerIndex.remove`."""
        where, values = _filter(keys)
        self._run(f'DELETE FROM "{self.table}" {where}', values)

    def search(
        self, queries: Float[np.ndarray, "n d"], k: int, keys: Keys | None = None
    ) -> list[list[int]]:
        """See `AnswerIndex.search`."""
        if keys is not None and len(keys) == 0:
            return [[] for _ in queries]
        return group_hits(partial(self._search, keys=keys), queries, k)

    def counts(self, keys: Keys | None = None) -> dict[int, int]:
        """See `AnswerIndex.counts`."""
        where, values = _filter(keys)
        statement = f'SELECT answer, count(*) FROM "{self.table}" {where} GROUP BY answer'
        return {key: count for key, count in self._run(statement, values)}  # noqa: C416 (typed)

    def __len__(self) -> int:
        """Return the number of vectors."""
        return int(self._run(f'SELECT count(*) FROM "{self.table}"')[0][0])

    def settle(self) -> None:
        """See `AnswerIndex.settle`; a graph is built once there are more than 20,000 vectors."""
        if len(self) > MAX_EXACT_VECTORS:
            [(dim,)] = self._run(f'SELECT vector_dims(vector) FROM "{self.table}" LIMIT 1')
            indexes = "SELECT indexdef FROM pg_indexes WHERE tablename = %s"
            graphs = [row for row in self._run(indexes, (self.table,)) if " hnsw " in row[0]]
            if dim <= MAX_GRAPH_DIM and not graphs:
                self._run(
                    f'CREATE INDEX ON "{self.table}" USING hnsw (vector vector_ip_ops) '
                    f"WITH (m = {LINKS}, ef_construction = {BUILD_BREADTH})"
                )
        self._run(f'ANALYZE "{self.table}"')

    def publish(self) -> None:
        """See `AnswerIndex.publish`.

        The newest table of another ranker stays, for those that still use it and to go back to.
        """
        with self._begin() as connection:
            if self.table != self.alias:
                connection.exec_driver_sql(f'DROP TABLE IF EXISTS "{self.alias}"')
                connection.exec_driver_sql(f'ALTER TABLE "{self.table}" RENAME TO "{self.alias}"')
            published = [n for n in self._tables(connection) if not n.endswith(NEW)]
            for name in [name for name in published if name != self.alias][:-1]:
                connection.exec_driver_sql(f'DROP TABLE "{name}"')
        self.table = self.alias

    def _search(
        self, queries: Float[np.ndarray, "n d"], depth: int, keys: Keys | None
    ) -> list[list[int]]:
        where, values = _filter(keys)
        select = f'SELECT answer FROM "{self.table}" {where} ORDER BY '
        by_graph = f"{select} vector <#> %s::vector LIMIT {depth}"
        exactly = f"{select} (vector <#> %s::vector) + 0 LIMIT {depth}"  # no index has this order
        breadth = min(max(SEARCH_BREADTH, depth), MAX_SEARCH_BREADTH)
        all_hits = []
        with self._begin() as connection:
            for setting in (f"ef_search = {breadth}", "iterative_scan = strict_order"):
                connection.exec_driver_sql(f"SET LOCAL hnsw.{setting}")
            for query in np.asarray(queries, np.float32):
                parameters = (*values, str(query.tolist()))
                hits: list[int] = []
                if keys is None or len(keys) > MAX_EXACT_KEYS:
                    hits = list(connection.exec_driver_sql(by_graph, parameters).scalars())
                if len(hits) < depth:
                    hits = list(connection.exec_driver_sql(exactly, parameters).scalars())
                all_hits.append(hits)
        return all_hits

    def _run(self, statement: str, values: tuple[Any, ...] = ()) -> list[Any]:
        """Execute a statement in a transaction of its own, and return its rows."""
        with self._begin() as connection:
            result = connection.exec_driver_sql(statement, values)
            return list(result) if result.returns_rows else []

    def _tables(self, connection: Connection) -> list[str]:
        """Return the tables of the place's name, of all rankers, the newest last."""
        form = re.compile(rf"{re.escape(self.place.name)}_[0-9a-f]{{{DIGITS}}}(?:{NEW})?")
        rows = connection.exec_driver_sql(
            "SELECT relname FROM pg_class WHERE relkind = 'r' "
            "AND relnamespace = current_schema()::regnamespace ORDER BY oid"
        )
        return list(filter(form.fullmatch, rows.scalars()))

    @contextmanager
    def _begin(self) -> Iterator[Connection]:
        """Begin a transaction; report an error of the database in a line, with a fix."""
        from psycopg import Error
        from sqlalchemy.exc import SQLAlchemyError

        from twinrank.addresses import hide_passwords

        try:
            with self._engine.begin() as connection:
                yield connection
        except (SQLAlchemyError, Error) as error:
            line = hide_passwords(first_line(getattr(error, "orig", error)), self.place.address)
            raise AnswerIndexError(
                f"{self.place}: {line}; check the address, that it runs, and that pgvector 0.8 or "
                "newer is installed there (CREATE EXTENSION vector)"
            ) from None


def _filter(keys: Keys | None) -> tuple[str, tuple[Any, ...]]:
    return ("", ()) if keys is None else ("WHERE answer = ANY(%s)", (keys.tolist(),))


@cache
def _create_engine(address: URL) -> Engine:
    """Create the pool of connections that all rankers of this process share."""
    import sqlalchemy as sa

    settings: dict[str, Any] = {"prepare_threshold": None}  # plans depend on the values
    if "connect_timeout" not in address.query:
        settings["connect_timeout"] = CONNECT_S
    return sa.create_engine(address, pool_pre_ping=True, connect_args=settings)
