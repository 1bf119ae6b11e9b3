"""What this node depends on, as present addresses: brokers, object store, API server, and DNS where names need it.

Called by ``system``. Reads resolv.conf and the kubelet's own configuration, asks DNS; changes nothing. An address that
changes later is not followed: what a node depends on in the long run belongs on the operator's list as a network.
"""

import ipaddress
import os
import socket
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from workers.domain.errors import ConfigError, TransientFailure
from workers.domain.targets.network import IpNetwork, Lifeline, Lifelines, Protocol, Purpose
from workers.system.yaml_files import read_mapping

KUBELET: Final = (
    "etc/kubernetes/kubelet.conf",
    "var/lib/kubelet/kubeconfig",
    "var/lib/rancher/k3s/agent/kubelet.kubeconfig",
    "var/lib/rancher/rke2/agent/kubelet.kubeconfig",
)
"""Where kubeadm, cloud images, k3s and RKE2 keep the kubelet's API server address, below the host's root."""
_RESOLVERS: Final = ("/etc/resolv.conf", "/run/systemd/resolve/resolv.conf")
"""The second names the servers behind systemd's stub on loopback."""
_ROOTS: Final = (Path("/"), Path("/proc/1/root"))
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}

Endpoint = tuple[Purpose, str, int]
"""What it is for, host name or address, port."""


def split(server: str, *, default_port: int = 0) -> tuple[str, int]:
    """``HOST:PORT``, IPv6 in brackets."""
    if server.startswith("["):
        host, _, port = server[1:].partition("]")
        return host, int(port.removeprefix(":") or default_port)
    host, _, port = server.rpartition(":") if server.count(":") == 1 else (server, "", "")
    return host, int(port or default_port)


def of_url(purpose: Purpose, url: str) -> Endpoint:
    """The endpoint that a URL names. Raises ``ValueError``."""
    parts = urlsplit(url)
    return purpose, parts.hostname or "", parts.port or _DEFAULT_PORTS.get(parts.scheme, 443)


def api_servers(environment: Mapping[str, str] = os.environ, roots: Iterable[Path] = _ROOTS) -> Iterator[Endpoint]:
    """Where the kubelet of this host, and pods on it, find their API server; nothing where there is no Kubernetes."""
    host, port = environment.get("KUBERNETES_SERVICE_HOST", ""), environment.get("KUBERNETES_SERVICE_PORT", "443")
    if host and port.isdigit():
        yield Purpose.API_SERVER, host, int(port)
    for root in roots:
        for path in KUBELET:
            try:
                yield from _servers_of(read_mapping(root / path))
            except (ConfigError, OSError, ValueError):
                continue


def name_servers(paths: Iterable[str] = _RESOLVERS) -> list[str]:
    """The addresses of this machine's DNS servers, those on loopback left out: loopback stays open anyway."""
    found = []
    for path in paths:
        try:
            lines = Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            continue
        for line in lines:
            words = line.split()
            if len(words) >= 2 and words[0] == "nameserver":
                try:
                    address = ipaddress.ip_address(words[1].partition("%")[0])
                except ValueError:
                    continue
                if not address.is_loopback:
                    found.append(str(address))
    return list(dict.fromkeys(found))


def resolved(endpoints: Iterable[Endpoint], resolvers: Iterable[str] | None = None) -> Lifelines:
    """Every address of every endpoint, and the DNS servers where one of them is known by name.

    Raises:
        TransientFailure: a name has no address now (``no_lifeline``).
    """
    found: list[Lifeline] = []
    by_name = False
    for purpose, host, port in dict.fromkeys(endpoints):
        by_name = by_name or not _is_address(host)
        found += [Lifeline(purpose, each, port) for each in _addresses(purpose, host, port)]
    if by_name:
        for server in name_servers() if resolvers is None else resolvers:
            found += [
                Lifeline(Purpose.NAMES, ipaddress.ip_network(server), 53, protocol)
                for protocol in (Protocol.UDP, Protocol.TCP)
            ]
    return tuple(dict.fromkeys(found))


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _addresses(purpose: Purpose, host: str, port: int) -> Iterator[IpNetwork]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise TransientFailure(
            f"{purpose} {host} has no address now ({error}), so it cannot be kept reachable", code="no_lifeline"
        ) from error
    for family, _, _, _, address in found:
        if family in (socket.AF_INET, socket.AF_INET6):
            yield ipaddress.ip_network(str(address[0]).partition("%")[0])


def _servers_of(document: Mapping[str, Any]) -> Iterator[Endpoint]:
    clusters = document.get("clusters")
    for each in clusters if isinstance(clusters, list) else ():
        cluster = each.get("cluster") if isinstance(each, dict) else None
        server = cluster.get("server") if isinstance(cluster, dict) else None
        if isinstance(server, str):
            endpoint = of_url(Purpose.API_SERVER, server)
            if endpoint[1]:
                yield endpoint
