"""The history store on SQLAlchemy Core: SQLite or PostgreSQL, as its URL names it; schema and migrations by alembic.

Opened by wiring for the projector (the one writer) and the gateway (readers). Implements ``HistoryStore``;
knows nothing of workers. What differs between databases stands in ``dialect`` and the two homes."""
