"""The port ``Vault``: files out of the way, and back exactly as they were. The one doorway of zstandard.

Made by bootstrap, driven by the actions on files. ``vault`` opens it; ``place`` holds one file's directory through all
steps; below them are ``paths`` (names to descriptors), ``kernel`` (calls that Python lacks), ``facts``, ``packing``.
"""

from workers.adapters.vault.vault import Kernel, SystemVault

__all__ = ["Kernel", "SystemVault"]
