"""The doorway to the ``docker`` package: Docker and Podman behind their common Engine API, as the port ``Containers``.

Made by bootstrap. The package is imported at the first question, so that a node that is asked for nothing does not pay
for it. Must never act on a name, and never read an outcome out of an HTTP code.
"""

from workers.host.containers.docker.containers import EngineContainers

__all__ = ["EngineContainers"]
