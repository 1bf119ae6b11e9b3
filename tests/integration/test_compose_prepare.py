"""What prepare.sh makes is what docker-compose.yml needs, and a second run changes none of it."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from workers.domain.trust.keyset import KeyRole
from workers.settings import GatewaySettings, parse
from workers.system.yaml_files import read_mapping
from workers.wire.keys.keyset_document import verified

_COMPOSE = Path(__file__).resolve().parents[2] / "deploy" / "compose"
_PRINCIPALS = ("kafka", "operator", "dispatcher", "responder", "projector", "gateway", "node")


def prepare(keys: Path) -> str:
    """Run the script as the `prepare` service does; what it said."""
    douse = str(Path(sys.executable).with_name("douse"))
    environment = {"PATH": os.environ["PATH"], "KEYS": str(keys), "TEMPLATES": str(_COMPOSE), "DOUSE": douse}
    done = subprocess.run(
        ["/bin/sh", str(_COMPOSE / "prepare.sh")], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("keys")
    prepare(made)
    return made


@pytest.fixture(autouse=True)
def _openssl(require: Callable[..., None]) -> None:
    require("openssl", "prepare.sh makes certificates with it")


def _openssl_says(*arguments: str) -> str:
    done = subprocess.run(["openssl", *arguments], capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


@pytest.mark.parametrize("principal", _PRINCIPALS)
def test_each_principal_has_a_certificate_of_its_own_name(principal: str, keys: Path) -> None:
    purpose = "sslserver" if principal == "kafka" else "sslclient"
    certificate = str(keys / principal / "tls.pem")
    assert ": OK" in _openssl_says(
        "verify", "-CAfile", str(keys / principal / "ca.pem"), "-purpose", purpose, certificate
    )
    assert _openssl_says("x509", "-in", certificate, "-noout", "-subject").strip() == f"subject=CN = {principal}"


def test_a_workers_certificate_does_not_make_it_a_broker(keys: Path) -> None:
    ca = str(keys / "authority" / "ca.pem")
    assert ": OK" not in _openssl_says("verify", "-CAfile", ca, "-purpose", "sslserver", str(keys / "node" / "tls.pem"))


def test_nothing_is_readable_by_others(keys: Path) -> None:
    open_files = [path for path in keys.rglob("*") if path.is_file() and path.stat().st_mode & 0o077]
    assert open_files == []


def test_the_gateway_knows_only_the_digest_of_the_operators_token(keys: Path) -> None:
    token = str(read_mapping(keys / "operator" / "context.yaml")["token"])
    settings = parse(GatewaySettings, read_mapping(keys / "gateway" / "gateway.yaml"))
    assert settings.admin_token_sha256 == hashlib.sha256(token.encode()).hexdigest()
    assert len(token) == 64
    assert token not in (keys / "gateway" / "gateway.yaml").read_text()


def test_the_authoritys_key_is_handed_to_nobody(keys: Path) -> None:
    secret = (keys / "authority" / "ca.key").read_text()
    holders = [path for path in keys.rglob("*") if path.is_file() and secret in path.read_text()]
    assert holders == [keys / "authority" / "ca.key"]


def test_each_worker_has_its_own_signing_key_and_nobody_the_operators(keys: Path) -> None:
    for role in ("dispatcher", "responder", "projector", "gateway", "node"):
        assert verified((keys / role / "keyset.json").read_bytes()).version == 1
        others = {path.name for path in (keys / role).glob("*.key")} - {f"{role}.key", "tls.key"}
        assert others == set()
    assert [path.parent for path in keys.rglob("operator.key")] == [keys / "operator" / "signing"]


def test_the_keyset_pins_the_node_that_the_settings_name(keys: Path) -> None:
    named = read_mapping(_COMPOSE / "node.yaml")["node"]["id"]
    pinned = verified((keys / "node" / "keyset.json").read_bytes()).keys.values()
    assert [key.owner for key in pinned if key.role is KeyRole.NODE] == [named]


def test_a_second_run_keeps_everything(tmp_path: Path) -> None:
    prepare(tmp_path)
    before = _contents(tmp_path)
    output = prepare(tmp_path)
    assert _contents(tmp_path) == before
    assert "making" not in output


def test_a_certificate_about_to_expire_is_made_again(tmp_path: Path) -> None:
    prepare(tmp_path)
    certificate = tmp_path / "node" / "tls.pem"
    before = _contents(tmp_path)
    certificate.write_text("")
    assert "making a certificate for node" in prepare(tmp_path)
    changed = {path for path, content in _contents(tmp_path).items() if before[path] != content}
    assert changed == {certificate, tmp_path / "node" / "tls.key"}


def _contents(root: Path) -> Mapping[Path, bytes]:
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
