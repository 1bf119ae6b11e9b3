"""The doorway to the ``docker`` package: Docker and Podman behind their common Engine API.

Made by wiring. The package is imported at the first question, so that a node that is never asked does not pay for it.
Must never act on a name, and never derive an outcome from an HTTP code.
"""

from workers.host.containers.docker.container import EngineSockets

__all__ = ["EngineSockets"]
