"""file_quarantine and file_unquarantine: a file is taken into this node's vault, and given back to undo that.

``take`` and ``steps`` are the quarantine, ``give_back`` is its undo, ``limits`` has
parameters, settings, and what is refused. Both go step by step through the port ``Vault``; each step is durable before
the next.
"""

from workers.actions.file_quarantine.give_back import FileUnquarantine
from workers.actions.file_quarantine.limits import QuarantineSettings
from workers.actions.file_quarantine.take import FileQuarantine

__all__ = ["FileQuarantine", "FileUnquarantine", "QuarantineSettings"]
