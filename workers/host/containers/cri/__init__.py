"""The doorway to ``grpcio``: containerd and CRI-O behind Kubernetes' container runtime interface, as the port
``Containers``.

Made by bootstrap. The package is imported at the first question. CRI has no pause: containerd's own task service, on
the same socket, has. Must never read an outcome out of a status code.
"""

from workers.host.containers.cri.containers import CriContainers

__all__ = ["CriContainers"]
