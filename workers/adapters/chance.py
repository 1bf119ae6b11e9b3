"""The kernel's randomness.

Made by bootstrap, used through the port ``Chance``.
"""

import os


class SystemChance:
    """Unpredictable bytes."""

    def bytes(self, count: int) -> bytes:
        """``count`` bytes from the kernel."""
        return os.urandom(count)
