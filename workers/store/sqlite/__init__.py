"""One crash-proof SQLite file: what the node's journal and the dispatcher's ledger have in common.

Used by ``store.journal`` and ``store.ledger`` only. Knows nothing of commands, entries or requests.
"""
