"""The kernel's randomness.

Made by wiring, used through the port ``Randomness``.
"""

import os


class SystemRandomness:
    """Unpredictable bytes."""

    def bytes(self, count: int) -> bytes:
        """``count`` bytes from the kernel."""
        return os.urandom(count)
