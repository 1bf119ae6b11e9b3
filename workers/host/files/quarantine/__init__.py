"""Files out of the way, and back exactly as they were. The one doorway of zstandard.

``vault`` opens the store; ``held_file`` holds one file's directory through every step; ``parking``, ``packing`` and
``returning`` do the steps; ``shelf`` keeps objects and manifests.
"""
