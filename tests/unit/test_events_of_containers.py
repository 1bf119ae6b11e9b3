"""An event of a container never yields a target of the host, whatever is missing in it or contradicts itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.codec import FakeCodec
from workers.domain.event import RuntimeEvent
from workers.domain.event_bounds import bounded
from workers.domain.falco.alert import event_from
from workers.domain.target import KINDS, ContainerTarget, FileTarget, NetworkTarget, ProcessTarget
from workers.domain.target_kind import NoTarget

EVENTS = Path(__file__).parent.parent / "data" / "falco-events.jsonl"
REAL = [json.loads(line) for line in EVENTS.read_text().splitlines()]
OF_CONTAINERS = [alert for alert in REAL if "container.id" in (alert.get("output_fields") or {})]
ID = "16514a12c7ad"
FULL = ID + "0" * 52

USELESS: list[Any] = [
    None, "", "<NA>", "N/A", "host", "HOST", " host", "web", ID[:11], ID + "g", "f" * 64, "f" * 65, "../../etc",
    0, 12, 1.5, True, False, ["host"], {"id": "host"}, "\0", "ho\0st",
]  # fmt: skip
SIGNS = {
    "container.name": "web",
    "container.image": "alpine:3.20",
    "container.image.repository": "alpine",
    "container.image.tag": "3.20",
    "container.image.digest": "sha256:ab",
    "container.type": "docker",
    "container.mounts": "/:/host",
    "container.start_ts": 1783198004180672852,
    "container.privileged": True,
    "container_id": ID,
    "k8s.pod.name": "nginx",
    "k8s.ns.name": "default",
    "k8s.pod.uid": "7",
    "k8s_pod_name": "nginx",
    "proc.vpid": 7,
}
"""Each of them is in no event of a host."""

NEEDLESS = st.dictionaries(
    st.sampled_from(["evt.type", "user.uid", "proc.name", "k8s.node.name", "k8s.cluster.name", "a", "zz"]),
    st.sampled_from(["host", "", "x", 7]),
    max_size=4,
)


@st.composite
def events_of_containers(draw: st.DrawFn) -> RuntimeEvent:
    """A real alert of a container about a file, whose container has no id that can be used, but leaves a sign."""
    alert = json.loads(json.dumps(draw(st.sampled_from(OF_CONTAINERS))))
    fields = {name: value for name, value in alert["output_fields"].items() if name not in SIGNS}
    fields |= {"fd.name": "/etc/passwd", "proc.pid": 4711} | draw(NEEDLESS)
    fields |= draw(st.fixed_dictionaries({"container.id": st.sampled_from(USELESS)})) if draw(st.booleans()) else {}
    if fields.get("container.id") == ID:
        del fields["container.id"]
    fields |= {name: SIGNS[name] for name in draw(st.sets(st.sampled_from(sorted(SIGNS)), min_size=1))}
    full = draw(st.sampled_from([*USELESS, FULL]))
    if full == FULL:  # usable by itself: it is not, beside a short id that says otherwise
        fields["container.id"] = draw(st.sampled_from(["host", "web", "f" * 12]))
    fields["container.full_id"] = full
    event = event_from(alert | {"output_fields": fields})
    return bounded(event) if draw(st.booleans()) else event


def usable(event: RuntimeEvent) -> str:
    return event.container.id if event.container is not None else ""


@given(events_of_containers())
def test_an_event_of_a_container_never_yields_a_path_or_a_network_of_the_host(event: RuntimeEvent) -> None:
    for kind in (FileTarget, NetworkTarget, ContainerTarget):
        found = kind.from_event(event)
        if isinstance(found, NoTarget):
            assert found.code in ("container_unclear", "lacks_field")
            assert "append_output" in found.message
        else:
            assert found.container == usable(event) != "", "never the host's"


@given(events_of_containers())
def test_its_process_stays_a_target_because_a_pid_is_the_hosts_number_for_it(event: RuntimeEvent) -> None:
    assert isinstance(ProcessTarget.from_event(event), ProcessTarget)


@pytest.mark.parametrize("alert", OF_CONTAINERS, ids=lambda alert: alert["rule"])
@pytest.mark.parametrize("kind", [FileTarget, NetworkTarget])
def test_a_real_alert_of_a_container_that_loses_any_of_its_fields_is_not_the_hosts(
    alert: dict[str, Any], kind: type[FileTarget | NetworkTarget]
) -> None:
    fields = alert["output_fields"] | {"fd.name": "/etc/passwd"}
    for lost in fields:
        found = kind.from_event(event_from(alert | {"output_fields": {k: v for k, v in fields.items() if k != lost}}))
        assert isinstance(found, NoTarget) or found.container, lost


def test_an_event_that_states_the_host_and_nothing_else_yields_the_hosts_path_and_network() -> None:
    """What Falco prints of a host: also with its container plugin, which knows every field and no container."""
    fields: dict[str, Any] = {
        "container.id": "host", "container.full_id": "host", "container.name": "host", "container.type": "host",
        "container.image.repository": None, "container.image.tag": "<NA>", "container.privileged": False,
        "k8s.pod.name": None, "k8s.ns.name": "", "k8s.node.name": "n1", "proc.pid": 4711, "proc.vpid": 4711,
        "fd.name": "/tmp/xmrig",
    }  # fmt: skip
    event = event_from({"rule": "R", "time": "2026-07-04T20:46:44Z", "output_fields": fields})
    codec = FakeCodec()
    for each in (event, codec.decode(codec.encode(event), RuntimeEvent)):
        assert FileTarget.from_event(each) == FileTarget(b"/tmp/xmrig", event.occurred_at_ns)
        assert NetworkTarget.from_event(each) == NetworkTarget(event.occurred_at_ns)
        assert isinstance(ContainerTarget.from_event(each), NoTarget)


def test_every_kind_of_target_is_judged_here() -> None:
    assert set(KINDS) == {ProcessTarget, ContainerTarget, FileTarget, NetworkTarget}
