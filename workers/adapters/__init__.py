"""One doorway per third-party library or piece of the operating system, each behind a Protocol of workers.ports.

Constructed by bootstrap alone. Adapters translate foreign errors into workers.core.errors at the doorway; they must
never import actions or workers.
"""
