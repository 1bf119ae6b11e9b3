"""Files on their way to the object store: read safely, copied, hashed, sealed, and gone once they have arrived.

Made by bootstrap for the node worker; implements ``ports.Spool``.
"""

from workers.adapters.spool.spool import SystemSpool

__all__ = ["SystemSpool"]
