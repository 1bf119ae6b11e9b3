"""How a history store of any version becomes this version's. Run by ``store.history.schema`` through alembic."""
