"""Copies into the new store what only the old one has, found by reading both in the order of their keys.

Called by ``rebuild``. Steps are folded again, as the projector would; everything else is copied as it stands.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from itertools import islice
from typing import Any, Final

from sqlalchemy import Column, Connection, RowMapping, Table, select, tuple_

from workers.domain.history.execution import FoldedStep, fold
from workers.domain.history.rebuild import Carried, Reach, Tally
from workers.domain.result import ActionResult
from workers.store.history import tables
from workers.store.history.dialect import insert_new, snapshot
from workers.store.history.store import SqlHistoryStore
from workers.wire.ports import Codec

_STREAMED: Final = 1000
_CHUNK: Final = 500
"""Rows of one transaction."""

_BEFORE_ALL: Final = 1 << 40
"""Taken off the arrival of a copied event: it came before everything that the log still has."""

Key = tuple[Any, ...]


class MissingRows:
    """Between two stores."""

    def __init__(self, old: Connection, fresh: SqlHistoryStore, codec: Codec) -> None:
        """``old`` sees one moment of the old store."""
        self._old = old
        self._fresh = fresh
        self._codec = codec

    def copy(self, reach: Reach) -> Carried:
        """As ``LiveHistory.copy_missing``."""
        steps, audit, events, nodes = tables.steps.c, tables.audit.c, tables.events.c, tables.nodes.c
        with snapshot(self._fresh.engine) as new:
            counts = (
                self._steps(new, (steps.execution_id, steps.producer, steps.attempt, steps.seq, steps.digest), reach),
                self._plain(
                    new, (audit.chain_id, audit.record_no, audit.digest), lambda row: row["at_ns"] < reach.audit_ns
                ),
                self._plain(new, (events.event_id, events.digest), lambda row: row["occurred_at_ns"] < reach.events_ns),
                # The log keeps the newest heartbeat alone, and none for a node that was removed from it.
                self._plain(new, (nodes.node_id, nodes.incarnation), lambda _: True),
            )
        return Carried(Tally(*(copied for copied, _ in counts)), Tally(*(left for _, left in counts)))

    def _steps(self, new: Connection, key: Sequence[Column[Any]], reach: Reach) -> tuple[int, int]:
        copied = left = 0
        for chunk in self._missing(new, key):
            found = [
                FoldedStep(
                    self._codec.decode(row["payload"], ActionResult), row["digest"], row["payload"], row["signed"]
                )
                for row in self._rows(key, chunk)
            ]
            older = [step for step in found if step.result.at_ns < reach.steps_ns]
            copied, left = copied + len(older), left + len(found) - len(older)
            with self._fresh.begin() as tx:
                tx.put_steps(older)
                for execution_id, all_steps in tx.steps({step.result.execution_id for step in older}).items():
                    tx.put_execution(fold(execution_id, all_steps))
        return copied, left

    def _plain(
        self, new: Connection, key: Sequence[Column[Any]], is_older: Callable[[RowMapping], bool]
    ) -> tuple[int, int]:
        copied = left = 0
        table = key[0].table
        assert isinstance(table, Table)
        for chunk in self._missing(new, key):
            found = self._rows(key, chunk)
            older = [dict(row) for row in found if is_older(row)]
            copied, left = copied + len(older), left + len(found) - len(older)
            if not older:
                continue
            if table is tables.events:
                older = [{**row, "arrival": row["arrival"] - _BEFORE_ALL} for row in older]
            with self._fresh.writing() as writing:
                writing.execute(insert_new(writing, table), older)
        return copied, left

    def _missing(self, new: Connection, key: Sequence[Column[Any]]) -> Iterator[list[Key]]:
        """Keys that the old store has and the new one has not, in order, some at a time."""
        with closing(_keys(self._old, key)) as old_keys, closing(_keys(new, key)) as new_keys:
            missing = _only_in_first(old_keys, new_keys)
            while chunk := list(islice(missing, _CHUNK)):
                yield chunk

    def _rows(self, key: Sequence[Column[Any]], wanted: Sequence[Key]) -> list[RowMapping]:
        """From the first key to the last by the index; what lies between and is not missing is read over."""
        exactly, names = set(wanted), [column.name for column in key]
        chosen = select(key[0].table).where(tuple_(*key) >= tuple_(*wanted[0]), tuple_(*key) <= tuple_(*wanted[-1]))
        found = self._old.execution_options(yield_per=_STREAMED).execute(chosen)
        return [row for row in found.mappings() if tuple(row[name] for name in names) in exactly]


def _keys(connection: Connection, key: Sequence[Column[Any]]) -> Generator[Key, None, None]:
    chosen = select(*key).order_by(*key)
    with connection.execution_options(yield_per=_STREAMED).execute(chosen) as found:
        for row in found:
            yield tuple(row)


def _only_in_first(first: Iterator[Key], second: Iterator[Key]) -> Iterator[Key]:
    """Of two sorted sequences."""
    other = next(second, None)
    for key in first:
        while other is not None and other < key:
            other = next(second, None)
        if key != other:
            yield key
