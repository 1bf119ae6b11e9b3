"""The digest of a whole store: what two stores have in common when they hold the same history.

Called by ``store``. Streams the rows; the bytes themselves stand for by their own digests.
"""

from typing import Any

from sqlalchemy import Connection, Select, select

from workers.domain.history.search import HistoryDigest, SearchRow
from workers.store.history import tables
from workers.store.history.queries import newest_heartbeats

_BATCH = 1000


def digest_of(connection: Connection) -> str:
    """Of everything folded: executions, steps, events, audit, and the newest heartbeat of each node.

    Older heartbeats are left out: the log is compacted, so that a rebuild may never see them.
    """
    digest = HistoryDigest()
    steps, events, audit = tables.steps.c, tables.events.c, tables.audit.c
    compared: dict[str, Select[Any]] = {
        "step": select(steps.execution_id, steps.producer, steps.attempt, steps.seq, steps.digest),
        "event": select(events.event_id, events.digest),
        "node": newest_heartbeats().with_only_columns(tables.nodes.c.node_id, tables.nodes.c.digest),
        "audit": select(audit.chain_id, audit.record_no, audit.digest, audit.verified),
    }
    for kind, chosen in compared.items():
        for row in connection.execution_options(yield_per=_BATCH).execute(chosen):
            digest.add(kind, *(int(value) if isinstance(value, bool) else value for value in row))
    whole = connection.execution_options(yield_per=_BATCH).execute(select(tables.executions))
    for values in whole.mappings():
        digest.add_execution(SearchRow(**values))
    return digest.hexdigest()
