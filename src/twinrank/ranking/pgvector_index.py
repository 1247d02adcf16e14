"""The answer index in PostgreSQL, by its extension pgvector.

Of the name `twinrank` and a ranker whose fingerprint begins with 3f9a0c12be77 there are

    twinrank_3f9a0c12be77_new   a table that is being made, which nobody searches
    twinrank_3f9a0c12be77       the same once it is whole, renamed in one transaction
"""

# ruff: noqa: S608 (names of tables are checked, and digits)

from __future__ import annotations

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
MAX_GRAPH_DIM, MAX_BREADTH = 2_000, 1_000  # of pgvector; it searches further in steps
GRAPH = "USING hnsw (vector vector_ip_ops) WITH (m = 16, ef_construction = 100)"
SEARCH_BREADTH = 128  # its ef_search
CONNECT_S = 10
COPY_BEGIN, COPY_END = b"PGCOPY\n\xff\r\n\0" + bytes(8), b"\xff\xff"
NEW = "_new"


class PgvectorIndex:
    """A table with one row a passage; see `AnswerIndex` for the methods.

    More than 20,000 vectors are searched by HNSW, which `settle` builds, unless keys select up to
    200,000 answers, or it gives fewer than are asked; all else is exact.
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
        with index._begin() as connection:
            sql = connection.exec_driver_sql
            for name in filter(lambda name: name.endswith(NEW), index._tables(connection)):
                sql(f'DROP TABLE "{name}"')
            sql("CREATE EXTENSION IF NOT EXISTS vector")
            sql(f'CREATE TABLE "{index.table}" (answer bigint, vector vector({dim}))')
            sql(f'CREATE INDEX ON "{index.table}" (answer)')
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
                self._run(f'CREATE INDEX ON "{self.table}" {GRAPH}')
        self._run(f'ANALYZE "{self.table}"')

    def publish(self) -> None:
        """See `AnswerIndex.publish`.

        The newest table of another ranker stays, for those that still use it and to go back to.
        """
        with self._begin() as connection:
            sql = connection.exec_driver_sql
            if self.table != self.alias:
                sql(f'DROP TABLE IF EXISTS "{self.alias}"')
                sql(f'ALTER TABLE "{self.table}" RENAME TO "{self.alias}"')
            published = [name for name in self._tables(connection) if not name.endswith(NEW)]
            for name in [name for name in published if name != self.alias][:-1]:
                sql(f'DROP TABLE "{name}"')
        self.table = self.alias

    def _search(
        self, queries: Float[np.ndarray, "n d"], depth: int, keys: Keys | None
    ) -> list[list[int]]:
        where, values = _filter(keys)
        select = f'SELECT answer FROM "{self.table}" {where} ORDER BY '
        by_graph = f"{select} vector <#> %s::vector LIMIT {depth}"
        exactly = f"{select} (vector <#> %s::vector) + 0 LIMIT {depth}"  # no index has this order
        breadth = min(max(SEARCH_BREADTH, depth), MAX_BREADTH)
        is_exact = keys is not None and len(keys) <= MAX_EXACT_KEYS
        all_hits = []
        with self._begin() as connection:
            connection.exec_driver_sql(f"SET LOCAL hnsw.ef_search = {breadth}")
            connection.exec_driver_sql("SET LOCAL hnsw.iterative_scan = strict_order")
            for query in np.asarray(queries, np.float32):
                parameters = (*values, str(query.tolist()))
                hits: list[int] = []
                for statement in (exactly,) if is_exact else (by_graph, exactly):
                    if len(hits) < depth:
                        hits = list(connection.exec_driver_sql(statement, parameters).scalars())
                all_hits.append(hits)
        return all_hits

    def _run(self, statement: str, values: tuple[Any, ...] = ()) -> list[Any]:
        with self._begin() as connection:
            result = connection.exec_driver_sql(statement, values)
            return list(result) if result.returns_rows else []

    def _tables(self, connection: Connection) -> list[str]:
        """Return the tables of all rankers, the newest last."""
        names = f"^{self.place.name}_[0-9a-f]{{{DIGITS}}}({NEW})?$"
        listed = "SELECT relname FROM pg_class WHERE relkind = 'r' AND relname ~ %s "
        listed += "AND relnamespace = current_schema()::regnamespace ORDER BY oid"
        return list(connection.exec_driver_sql(listed, (names,)).scalars())

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
            fix = "check the address, that it runs, and that it has pgvector 0.8 or newer"
            raise AnswerIndexError(f"{self.place}: {line}; {fix}") from None


def _filter(keys: Keys | None) -> tuple[str, tuple[Any, ...]]:
    return ("", ()) if keys is None else ("WHERE answer = ANY(%s)", (keys.tolist(),))


@cache
def _create_engine(address: URL) -> Engine:
    """Create the pool of connections that all rankers of this process share."""
    import sqlalchemy as sa

    wait_s = address.query.get("connect_timeout", CONNECT_S)
    settings = {"connect_timeout": wait_s, "prepare_threshold": None}  # plans depend on values
    return sa.create_engine(address, pool_pre_ping=True, connect_args=settings)
