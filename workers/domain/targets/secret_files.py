"""Files whose content is a secret: which may leave this machine only with two people's consent, and which never may.

Called by the actions that gather files, with facts read through a held descriptor. Pure. A file with a
fixed path is judged by identity, so that a hard link or a bind mount of it counts, and by its path, which the kernel
resolved without a link: in a container it is another file, and just as secret. Files that users keep anywhere are
judged by their path.
"""

import re
from collections.abc import Mapping
from typing import Final

from workers.domain.rules.glob import Glob
from workers.domain.targets.file import FileFacts
from workers.domain.targets.protected_files import KERNEL_FILESYSTEMS, ProtectedPaths

SECRET_FILES: Final[Mapping[str, str]] = {
    "/etc/shadow": "holds this machine's passwords",
    "/etc/shadow-": "holds this machine's passwords",
    "/etc/gshadow": "holds this machine's group passwords",
    "/etc/gshadow-": "holds this machine's group passwords",
    "/etc/krb5.keytab": "holds this machine's Kerberos keys",
    "/etc/ssh/ssh_host_*_key": "is this machine's SSH key",
    "/etc/kubernetes/*.conf": "holds credentials of the cluster",
    "/etc/rancher/k3s/k3s.yaml": "holds credentials of the cluster",
    "/var/lib/kubelet/kubeconfig": "holds credentials of the cluster",
}
"""Globs of single files; links at their end are followed, and the file they lead to is what is secret."""

SECRET_TREES: Final[Mapping[str, str]] = {
    "/etc/kubernetes/pki": "holds keys of the cluster",
    "/etc/letsencrypt/archive": "holds private keys",
    "/etc/ssl/private": "holds private keys",
    "/etc/sssd": "holds credentials of the directory service",
    "/etc/wireguard": "holds private keys",
    "/run/secrets": "holds secrets of services",
    "/var/lib/docker/swarm": "holds keys of the cluster",
    "/var/lib/kubelet/pki": "holds keys of the cluster",
}

_FIXED_PATHS: Final = tuple((Glob(pattern), reason) for pattern, reason in SECRET_FILES.items())

_NAMES: Final[tuple[tuple[re.Pattern[bytes], str], ...]] = (
    (re.compile(rb"/\.ssh/(?!authorized_keys|known_hosts|config$|[^/]+\.pub$)[^/]+$"), "may be a private SSH key"),
    (re.compile(rb"/id_(?:rsa|dsa|ecdsa|ed25519)(?:_sk)?[^/]*(?<!\.pub)$"), "may be a private SSH key"),
    (re.compile(rb"(?i)\.(?:key|p12|pfx|jks|keystore|kdbx|ppk)$"), "may be a private key"),
    (re.compile(rb"(?i)/[^/]*(?:privkey|private|key)[^/]*\.(?:pem|der)$"), "may be a private key"),
    (re.compile(rb"/\.gnupg/"), "belongs to a key ring"),
    (re.compile(rb"/\.kube/|/[^/]*kubeconfig[^/]*$"), "holds credentials of a cluster"),
    (re.compile(rb"/\.(?:aws|azure|oci)/|/\.config/gcloud/"), "holds credentials of a cloud"),
    (re.compile(rb"/\.docker/config\.json$"), "holds credentials of a registry"),
    (
        re.compile(rb"/(?:\.pgpass|\.my\.cnf|\.netrc|\.git-credentials|\.vault-token|\.npmrc|\.pypirc)$"),
        "holds passwords",
    ),
    (re.compile(rb"/(?:environ|mem|maps|kcore)$"), "may be the memory of a process"),
    (re.compile(rb"/kubernetes\.io~(?:secret|projected)/|/var/run/secrets/"), "is a secret of a pod"),
)


def untouchable(facts: FileFacts, own: ProtectedPaths) -> str | None:
    """Why Douse never reads this file, as a sentence that begins with "it"; None where it may."""
    if facts.filesystem in KERNEL_FILESYSTEMS:
        return f"it is the kernel's ({facts.filesystem}), not a file of a disk"
    return _by_identity(facts, own)


def secrecy(facts: FileFacts, path: bytes, secret: ProtectedPaths) -> str | None:
    """Why reading this file takes two people, as a sentence that begins with "it"; None where one is enough."""
    reason = _by_identity(facts, secret) or _by_path(path)
    if reason is not None:
        return reason
    return next((f"it {why}" for pattern, why in _NAMES if pattern.search(path)), None)


def _by_path(path: bytes) -> str | None:
    """By the fixed paths: inside a container they are not this host's files, and secret all the same."""
    name = path.decode("utf-8", "surrogateescape")
    for glob, reason in _FIXED_PATHS:
        if glob.matches(name) and name.count("/") == glob.pattern.count("/"):
            return f"it {reason}"
    for tree, reason in SECRET_TREES.items():
        if name.startswith(f"{tree}/"):
            return f"it lies in a directory that {reason}"
    return None


def _by_identity(facts: FileFacts, protected: ProtectedPaths) -> str | None:
    if facts.identity in protected.files:
        return f"it {protected.files[facts.identity]}"
    if facts.identity in protected.trees:
        return f"it {protected.trees[facts.identity]}"
    for directory in facts.ancestors:
        if directory in protected.trees:
            return f"it lies in a directory that {protected.trees[directory]}"
    return None
