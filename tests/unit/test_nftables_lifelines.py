"""What a node lives by: endpoints from settings, environment and kubelet; DNS only where names need it."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from workers.domain.errors import TransientFailure
from workers.domain.targets.network import Lifeline, Protocol, Purpose, allowed
from workers.host.network.lifelines import KUBELET, api_servers, name_servers, of_url, resolved, split
from workers.host.network.system import SystemNetwork

KUBECONFIG = """
apiVersion: v1
kind: Config
clusters:
- name: default
  cluster: {server: "https://10.96.7.7:6443"}
"""


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("10.0.0.7:9092", ("10.0.0.7", 9092)),
        ("kafka-1.example.org:9093", ("kafka-1.example.org", 9093)),
        ("[fd00::7]:9092", ("fd00::7", 9092)),
        ("fd00::7", ("fd00::7", 0)),
        ("kafka", ("kafka", 0)),
        ("[fd00::7]", ("fd00::7", 0)),
    ],
)
def test_a_server_is_split_into_host_and_port(text: str, found: tuple[str, int]) -> None:
    assert split(text) == found


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        ("https://s3.example.org", "s3.example.org", 443),
        ("http://10.0.0.8", "10.0.0.8", 80),
        ("https://[fd00::8]:8333", "fd00::8", 8333),
    ],
)
def test_a_url_names_host_and_port(url: str, host: str, port: int) -> None:
    assert of_url(Purpose.STORE, url) == (Purpose.STORE, host, port)


def test_the_kubelet_s_api_server_is_found_in_its_file_and_in_the_environment(tmp_path: Path) -> None:
    place = tmp_path / KUBELET[0]
    place.parent.mkdir(parents=True)
    place.write_text(KUBECONFIG)
    found = list(api_servers({"KUBERNETES_SERVICE_HOST": "10.96.0.1"}, [tmp_path]))
    assert found == [(Purpose.API_SERVER, "10.96.0.1", 443), (Purpose.API_SERVER, "10.96.7.7", 6443)]


@pytest.mark.parametrize(
    "text", ["", "clusters: 7", "clusters: [7]", "clusters: [{cluster: {server: 7}}]", "{", "x: ["]
)
def test_a_file_without_a_server_adds_nothing(tmp_path: Path, text: str) -> None:
    place = tmp_path / KUBELET[0]
    place.parent.mkdir(parents=True)
    place.write_text(text)
    assert list(api_servers({}, [tmp_path, tmp_path / "none"])) == []


def test_name_servers_are_read_without_those_on_loopback(tmp_path: Path) -> None:
    (tmp_path / "stub").write_text("# stub\nnameserver 127.0.0.53\noptions edns0\n")
    (tmp_path / "real").write_text("nameserver 10.0.0.53\nnameserver fe80::1%eth0\nnameserver junk\nnameserver\n")
    paths = [str(tmp_path / name) for name in ("stub", "real", "real", "none")]
    assert name_servers(paths) == ["10.0.0.53", "fe80::1"]


def test_dns_stays_reachable_only_where_a_name_needs_it() -> None:
    by_address = resolved([(Purpose.KAFKA, "10.0.0.7", 9092)], ["10.0.0.53"])
    assert [str(each) for each in by_address] == ["kafka tcp 10.0.0.7/32 9092"]
    by_name = resolved([(Purpose.KAFKA, "localhost", 9092)], ["10.0.0.53"])
    assert "names udp 10.0.0.53/32 53" in [str(each) for each in by_name]
    assert "names tcp 10.0.0.53/32 53" in [str(each) for each in by_name]


def test_a_name_without_an_address_is_not_left_out_silently() -> None:
    with pytest.raises(TransientFailure) as caught:
        resolved([(Purpose.KAFKA, "no-such-host.invalid", 9092)], [])
    assert caught.value.reason == "no_lifeline"


def test_brokers_that_the_cluster_names_stay_reachable_beside_the_bootstrap_servers() -> None:
    network = SystemNetwork(
        bootstrap_servers="10.0.0.7:9092, 10.0.0.7:9092",
        brokers=lambda: [("10.0.0.8", 9092)],
        store_url="https://10.0.0.9",
        operators=allowed("10.1.0.0/16"),
    )
    assert {str(each) for each in network.lifelines() if each.purpose is not Purpose.API_SERVER} == {
        "kafka tcp 10.0.0.7/32 9092",
        "kafka tcp 10.0.0.8/32 9092",
        "store tcp 10.0.0.9/32 443",
    }
    assert network.operators() == allowed("10.1.0.0/16")


def test_what_takes_a_connection_answers_and_what_does_not_does_not() -> None:
    network = SystemNetwork(bootstrap_servers="", brokers=list)
    with socket.create_server(("127.0.0.1", 0)) as open_, socket.create_server(("127.0.0.1", 0)) as closing:
        taken, closed = (_at(each) for each in (open_, closing))
        closing.close()
        asked = (taken, closed, *allowed("127.0.0.0/8"), Lifeline(Purpose.NAMES, taken.network, 53, Protocol.UDP))
        assert network.answering(asked) == {taken}
        assert network.answering(()) == frozenset()


def _at(listener: socket.socket) -> Lifeline:
    (lifeline,) = resolved([(Purpose.KAFKA, *listener.getsockname())], [])
    return lifeline


def test_without_the_library_every_isolation_is_refused_and_the_reason_names_what_to_install() -> None:
    network = SystemNetwork(bootstrap_servers="", brokers=list, library_name="libnone-of-this-name.so.1")
    assert "libnone-of-this-name.so.1 is not on this machine: install" in network.unfit()
