"""How a history store of any version becomes this version's. Run by ``history_store.schema`` through alembic."""
