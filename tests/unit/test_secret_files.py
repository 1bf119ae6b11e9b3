"""Which files are secret, by path and by name, and which are never read."""

from __future__ import annotations

import dataclasses

import pytest

from workers.domain.targets.file import FileFacts, FileIdentity, FileKind
from workers.domain.targets.protected_files import ProtectedPaths
from workers.domain.targets.secret_files import secrecy, untouchable

NOWHERE = ProtectedPaths()
FACTS = FileFacts(
    kind=FileKind.REGULAR,
    identity=FileIdentity(1, 10),
    parent=FileIdentity(1, 2),
    ancestors=(FileIdentity(1, 2), FileIdentity(1, 1)),
    size=1,
    mode=0o600,
    uid=0,
    gid=0,
    links=1,
    atime_ns=1,
    mtime_ns=1,
    ctime_ns=1,
    filesystem="ext4",
)


@pytest.mark.parametrize(
    "path",
    [
        b"/etc/shadow",
        b"/etc/ssh/ssh_host_rsa_key",
        b"/etc/ssl/private/anything",
        b"/run/secrets/token",
        b"/root/.ssh/id_rsa",
        b"/home/eve/.ssh/work",
        b"/opt/backup/id_ed25519",
        b"/opt/backup/id_ecdsa_sk.old",
        b"/etc/nginx/site.key",
        b"/srv/cert/privkey.pem",
        b"/srv/cert/server-key.PEM",
        b"/srv/store.jks",
        b"/home/eve/.gnupg/private-keys-v1.d/a",
        b"/home/eve/.kube/config",
        b"/root/admin.kubeconfig",
        b"/home/eve/.aws/credentials",
        b"/home/eve/.config/gcloud/application_default_credentials.json",
        b"/root/.docker/config.json",
        b"/home/eve/.pgpass",
        b"/home/eve/.git-credentials",
        b"/var/lib/kubelet/pods/x/volumes/kubernetes.io~secret/token/token",
        b"/mnt/proc/17/environ",
        b"/mnt/proc/17/mem",
    ],
)
def test_a_name_that_secrets_have_is_secret(path: bytes) -> None:
    assert secrecy(FACTS, path, NOWHERE)


@pytest.mark.parametrize(
    "path",
    [
        b"/tmp/xmrig",
        b"/var/log/syslog",
        b"/etc/passwd",
        b"/home/eve/.ssh/authorized_keys",
        b"/home/eve/.ssh/known_hosts.old",
        b"/home/eve/.ssh/id_rsa.pub",
        b"/home/eve/.ssh/config",
        b"/etc/ssl/certs/ca.pem",
        b"/usr/bin/keyctl",
        b"/tmp/monkey.txt",
        b"/home/eve/.docker/daemon.json",
        b"/srv/\xff\xfe",
    ],
)
def test_other_names_are_not(path: bytes) -> None:
    assert secrecy(FACTS, path, NOWHERE) is None


def test_a_secret_file_is_so_under_any_name() -> None:
    assert secrecy(FACTS, b"/tmp/x", ProtectedPaths({FACTS.identity: "holds this machine's passwords"}))
    assert secrecy(FACTS, b"/tmp/x", ProtectedPaths({}, {FileIdentity(1, 2): "holds private keys"}))
    assert secrecy(FACTS, b"/tmp/x", ProtectedPaths({}, {FileIdentity(1, 3): "holds private keys"})) is None


def test_own_trees_and_kernel_files_are_never_read() -> None:
    assert untouchable(FACTS, NOWHERE) is None
    assert untouchable(FACTS, ProtectedPaths({}, {FileIdentity(1, 1): "is this node's journal"}))
    assert untouchable(dataclasses.replace(FACTS, filesystem="proc"), NOWHERE)
