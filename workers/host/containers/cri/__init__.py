"""The doorway to ``grpcio`` and ``protobuf``: containerd and CRI-O behind Kubernetes' container runtime interface.

Made by wiring. The packages are imported at the first question, so that a node without a CRI socket does not pay for
them. CRI has no pause: containerd's own task service, on the same socket, has. Must never derive an outcome from a
status code.
"""

from workers.host.containers.cri.container import CriSockets

__all__ = ["CriSockets"]
