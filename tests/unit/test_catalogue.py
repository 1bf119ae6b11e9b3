"""What every action owes, present and future: written once, never changed when one is added.

Only ``_staged`` grows, by one case for each new kind of target.
"""

from __future__ import annotations

import dataclasses
import pkgutil
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.clock import FakeClock
from tests.fakes.containers import FakeContainers
from tests.fakes.failpoints import FakeFailpoints
from tests.fakes.network import FakeNetwork
from tests.fakes.object_store import FakeObjectStore
from tests.fakes.processes import FakeProcesses
from tests.fakes.spool import FakeSpool
from tests.fakes.vault import FakeVault
from tests.strategies import targets
from workers import actions
from workers.actions import CATALOGUE, by_name
from workers.actions.base import Action, AnyAction, Done, Effect, FieldSpec, Job, Lane, NotDone, values_of
from workers.domain.command import ActionCommand, parameters_digest
from workers.domain.errors import CommandRejected, PermanentFailure
from workers.domain.ids import EventId, ExecutionId, Incarnation, KeyId, NodeId
from workers.domain.outcome import Outcome, Report, Scalar, Values, code
from workers.domain.request import Actor, ActorKind, Causation
from workers.domain.target import ContainerTarget, FileTarget, NetworkTarget, ProcessTarget, Target
from workers.host.ports import Host
from workers.settings import ActionSettings, parse
from workers.system.yaml_files import read_mapping
from workers.wire.avro import AvroCodec
from workers.wiring.actions import node_features, node_settings

ROOT = Path(__file__).resolve().parents[2]
KINDS: Mapping[str, type] = {"string": str, "integer": int, "boolean": bool}
CAPABILITIES = frozenset(
    re.findall(
        r"\w+",
        """AUDIT_CONTROL AUDIT_READ AUDIT_WRITE BLOCK_SUSPEND BPF CHECKPOINT_RESTORE CHOWN DAC_OVERRIDE DAC_READ_SEARCH
        FOWNER FSETID IPC_LOCK IPC_OWNER KILL LEASE LINUX_IMMUTABLE MAC_ADMIN MAC_OVERRIDE MKNOD NET_ADMIN
        NET_BIND_SERVICE NET_BROADCAST NET_RAW PERFMON SETFCAP SETGID SETPCAP SETUID SYS_ADMIN SYS_BOOT SYS_CHROOT
        SYS_MODULE SYS_NICE SYS_PACCT SYS_PTRACE SYS_RAWIO SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG SYSLOG WAKE_ALARM""",
    )
)
"""capabilities(7)."""

each_action = pytest.mark.parametrize("action", CATALOGUE, ids=lambda action: action.name)
scalars = st.one_of(st.text(max_size=40), st.integers(), st.booleans())


def _command(action: AnyAction, target: Target | None, parameters: Values, *, now_ns: int = 1) -> ActionCommand:
    return ActionCommand(
        command_id=ExecutionId("0199e0f7-0000-7000-8000-000000000001"),
        node_id=NodeId("0" * 32),
        node_key=KeyId("1" * 32),
        incarnation=Incarnation("0d9c1f6e-7d0f-4a7c-9c53-2f2f4f3b1a10"),
        action=action.name,
        target=target,
        parameters=parameters,
        parameters_sha256=parameters_digest(parameters),
        issued_at_ns=now_ns,
        not_before_ns=now_ns,
        expires_at_ns=now_ns + action.ttl_s * 1_000_000_000,
        timeout_s=action.timeout_s,
        actor=Actor(ActorKind.RULE, "a rule"),
        causation=Causation(event_id=EventId("event-1")),
    )


FORWARD = ExecutionId("0199e0f7-0000-7000-8000-000000000002")
"""What an undo undoes."""


def _job(action: AnyAction, host: Host, target: Target | None = None, parameters: Values | None = None) -> Job[Any]:
    given_parameters = action.example["parameters"] if parameters is None else parameters
    now = host.clock.now_ns()
    command = _command(action, target or action.example["target"], given_parameters, now_ns=now)
    if action.undo_only:
        command = dataclasses.replace(command, undo_of=FORWARD)
    undoes = _EFFECTS.get(id(host)) if action.undo_only else None
    return Job(command, action.parse(given_parameters), now + action.timeout_s * 1_000_000_000, undoes)


_EFFECTS: dict[int, Effect[Any]] = {}
"""What the journal would know of the execution that is undone, by the host that it ran on."""


def _staged(action: AnyAction) -> Host:
    """A host on which the action's own example can be run."""
    match action.example["target"]:
        case ProcessTarget(line=line, observed_at_ns=at_ns):
            clock = FakeClock(at_ns - 10_000_000_000)
            processes = FakeProcesses(clock)
            for ref in line:
                processes.spawn(pid=ref.pid, exe=ref.exe, name=ref.name, command_line=ref.command_line)
            clock.advance(11)
            stores: dict[str, Any] = {"spool": FakeSpool(), "objects": FakeObjectStore(clock=clock)}
            host = Host(processes=processes, clock=clock, failpoints=FakeFailpoints(), **stores)
            if action.undo_only:
                _run_forward(action, host)
            return host
        case FileTarget(path=path, observed_at_ns=at_ns):
            clock, vault = FakeClock(at_ns), FakeVault()
            vault.put(path, b"malware")
            spool, objects = FakeSpool(vault), FakeObjectStore(clock=clock)
            host = Host(FakeProcesses(clock), clock, FakeFailpoints(), vault, spool, objects)
            if action.undo_only:
                _run_forward(action, host)
            return host
        case ContainerTarget(container_id=container_id, observed_at_ns=at_ns):
            clock = FakeClock(at_ns - 10_000_000_000)
            containers = FakeContainers(clock)
            containers.spawn(container_id)
            clock.advance(11)
            stores = {"spool": FakeSpool(), "objects": FakeObjectStore(clock=clock)}
            host = Host(FakeProcesses(clock), clock, FakeFailpoints(), containers=containers, **stores)
            if action.undo_only:
                _run_forward(action, host)
            return host
        case NetworkTarget(observed_at_ns=at_ns):
            clock = FakeClock(at_ns - 10_000_000_000)
            host = Host(FakeProcesses(clock), clock, FakeFailpoints(), network=FakeNetwork())
            clock.advance(11)
            if action.undo_only:
                _run_forward(action, host)
            return host
        case other:
            raise NotImplementedError(f"teach _staged to make a {type(other).__name__}")


def _run(action: AnyAction, job: Job[Any], host: Host) -> Report:
    action.admit(job, host)
    return action.execute(job, action.bind(job, host), host)


def _forward(undo: AnyAction) -> AnyAction:
    """The action that an undo undoes."""
    (forward,) = (other for other in CATALOGUE if other.reversible_by == undo.name)
    return forward


def _run_forward(undo: AnyAction, host: Host) -> None:
    """What there is to undo."""
    forward = _forward(undo)
    job = _job(forward, host)
    job = dataclasses.replace(job, command=dataclasses.replace(job.command, command_id=FORWARD))
    claim = forward.bind(job, host)
    _EFFECTS[id(host)] = Effect(claim, forward.execute(job, claim, host).outputs, FORWARD, job.target)


def test_names_are_unique_and_found_by_name() -> None:
    names = [action.name for action in CATALOGUE]
    assert len(set(names)) == len(names)
    assert [by_name(name) for name in names] == list(CATALOGUE)
    assert by_name("rm_rf") is None


def test_every_file_is_in_the_catalogue_and_an_undo_is_in_the_file_of_its_action() -> None:
    modules = {each.name for each in pkgutil.iter_modules(actions.__path__)} - {"base"}
    with_undo = {action.name for action in CATALOGUE if not action.undo_only}
    assert modules == with_undo
    for action in CATALOGUE:
        module = type(action).__module__.removeprefix("workers.actions.").partition(".")[0]
        assert module == (_forward(action).name if action.undo_only else action.name), (
            "with what it undoes, in one file"
        )


@each_action
def test_its_name_is_its_settings_key_and_the_lower_case_of_its_api_type(action: AnyAction) -> None:
    assert re.fullmatch(r"[a-z]+(?:_[a-z]+)+", action.name)
    for trigger, allowed in (("none", False), ("ALL", True)):
        features = parse(node_features(), {"respond": {"response_actions": {action.name: {"trigger": trigger}}}})
        assert features.respond.response_actions.allows(action.name) is allowed
        assert type(features.respond.response_actions.of(action.name)) is action.settings
    assert issubclass(action.settings, ActionSettings)
    assert action.api_type == action.name.upper()
    assert len(action.api_type) <= 32


@each_action
def test_it_is_described_for_people_within_what_the_api_carries(action: AnyAction) -> None:
    assert 0 < len(action.summary) <= 120
    assert not action.summary.endswith(".")
    assert action.drawbacks
    assert all(line.endswith(".") for line in action.drawbacks)
    assert len(action.summary) + sum(map(len, action.drawbacks)) <= 1024
    for spec in (*action.parameter_specs(), *action.outputs):
        assert spec.type in KINDS
        assert 0 < len(spec.name) <= 200
        assert 0 < len(spec.description) <= 1024
    for specs in (action.parameter_specs(), action.outputs):
        assert len({spec.name for spec in specs}) == len(specs)


@each_action
def test_its_bounds_make_sense(action: AnyAction) -> None:
    assert 1 <= action.ttl_s <= 3600
    assert 1 <= action.timeout_s <= 65_535
    assert dataclasses.is_dataclass(action.parameters)
    for spec in action.parameter_specs():
        assert (spec.minimum or 0) <= (spec.maximum or 0) or spec.type == "boolean"
        if spec.default is not None:
            assert action.parse({**action.example["parameters"], spec.name: spec.default}) is not None


@each_action
def test_what_undoes_it_exists_and_is_only_an_undo(action: AnyAction) -> None:
    if action.reversible_by is not None:
        reverse = by_name(action.reversible_by)
        assert reverse is not None
        assert reverse.undo_only
    if action.undo_only:
        assert any(other.reversible_by == action.name for other in CATALOGUE)


@each_action
def test_its_privileges_are_capabilities_that_the_deployment_grants(action: AnyAction) -> None:
    assert set(action.privileges) <= CAPABILITIES
    compose = read_mapping(ROOT / "docker-compose.yml")
    granted = set(compose["services"]["node"]["cap_add"])
    switched_on = parse(node_settings(), read_mapping(ROOT / "deploy/compose/node.yaml")).actions.allows(action.name)
    assert set(action.privileges) <= granted or not switched_on, "docker-compose.yml, service node"


@each_action
def test_its_example_travels_through_avro_unchanged(action: AnyAction) -> None:
    target, parameters = action.example["target"], action.example["parameters"]
    assert type(action.example["target"]) is action.target
    codec = AvroCodec()
    command = _command(action, target, parameters)
    back = codec.decode(codec.encode(command), ActionCommand)
    assert back == command
    assert action.parse(back.parameters) == action.parse(parameters)


@each_action
def test_parameters_may_come_as_text_as_published_clients_send_them(action: AnyAction) -> None:
    parameters = action.example["parameters"]
    as_text = {name: _as_text(value) for name, value in parameters.items()}
    assert action.parse(as_text) == action.parse(parameters)


@each_action
@given(data=st.data())
def test_junk_parameters_are_only_ever_rejected(action: AnyAction, data: st.DataObject) -> None:
    known = st.sampled_from([spec.name for spec in action.parameter_specs()] or ["nothing"])
    junk = data.draw(st.dictionaries(known | st.text(max_size=10), scalars, max_size=4))
    try:
        parsed = action.parse(junk)
    except CommandRejected as refusal:
        rejected_as = refusal.reason
    else:
        rejected_as = ""
        assert isinstance(parsed, action.parameters)
    assert rejected_as in {"", "invalid_parameters"}


@each_action
@given(target=st.none() | targets)
def test_a_junk_target_is_only_ever_rejected_or_gone_and_nothing_is_touched(action: AnyAction, target: Any) -> None:
    host = _staged(action)
    now = host.clock.now_ns()
    parameters = action.example["parameters"]
    job = Job(_command(action, target, parameters, now_ns=now), action.parse(parameters), deadline_ns=now)
    assert isinstance(action.serial_key(job), str)
    try:
        report = _run(action, job, host)
    except CommandRejected:
        report = None
    effects = cast(FakeProcesses, host.processes).effects
    if action.undo_only:
        effects -= action.target is ProcessTarget
    if isinstance(host.vault, FakeVault):
        effects += host.vault.effects - action.undo_only
    if isinstance(host.objects, FakeObjectStore):
        effects += len(host.objects.objects)
    if isinstance(host.containers, FakeContainers):
        effects += host.containers.effects - action.undo_only
    if isinstance(host.network, FakeNetwork):
        effects += host.network.effects - action.undo_only
    if report is None or report.outcome is Outcome.NO_ACTION:
        assert effects == 0
    else:  # a gathering action takes what is there now, whenever it was observed
        example = action.example["target"]
        observed_at_ns = example.observed_at_ns if action.lane is Lane.GATHERING else target.observed_at_ns
        assert dataclasses.replace(target, observed_at_ns=observed_at_ns) == example


@each_action
def test_its_example_runs_and_reports_what_it_declares(action: AnyAction) -> None:
    host = _staged(action)
    report = _run(action, _job(action, host), host)
    assert report.outcome is Outcome.COMPLETED
    assert report.post_condition is not None
    assert report.post_condition.holds
    _assert_reported_well(action, report)
    assert set(report.outputs) == {spec.name for spec in action.outputs}


@each_action
def test_a_second_run_finds_nothing_to_do(action: AnyAction) -> None:
    host = _staged(action)
    _run(action, _job(action, host), host)
    if action.name == "file_quarantine":  # what was taken is not there to be taken again
        with pytest.raises(CommandRejected) as refused:
            _run(action, _job(action, host), host)
        assert refused.value.reason == "missing"
        return
    again = _run(action, _job(action, host), host)
    assert again.outcome is Outcome.NO_ACTION
    _assert_reported_well(action, again)


@each_action
def test_its_probe_knows_done_from_not_done(action: AnyAction) -> None:
    host = _staged(action)
    job = _job(action, host)
    claim = action.bind(job, host)
    assert isinstance(action.probe(job, claim, host), NotDone)
    action.execute(job, claim, host)
    after = action.probe(job, claim, host)
    assert isinstance(after, Done)
    _assert_reported_well(action, after.report)


@each_action
def test_the_loss_of_an_effect_that_can_be_undone_is_noticed(action: AnyAction) -> None:
    """An undo is one way to lose it; other programs have others."""
    if not action.undo_only:
        assert action.reversible_by is None or type(action).lost is not Action.lost
        return
    host, forward = _staged(action), _forward(action)
    effect = _EFFECTS[id(host)]
    assert (forward.lost(effect, host), forward.weakened(effect, host)) == ("", "")
    _run(action, _job(action, host), host)
    assert forward.lost(effect, host) or forward.weakened(effect, host)


@each_action
def test_a_dry_run_touches_nothing(action: AnyAction) -> None:
    host = _staged(action)
    job = _job(action, host)
    report = action.dry_run_report(job, action.bind(job, host), host)
    assert report.outcome is Outcome.DRY_RUN
    assert isinstance(action.probe(job, action.bind(job, host), host), NotDone)
    _assert_reported_well(action, report)


@each_action
def test_its_claim_is_flat_so_that_the_journal_can_hold_it(action: AnyAction) -> None:
    host = _staged(action)
    claim = action.bind(_job(action, host), host)
    assert isinstance(claim, action.claims)
    values = values_of(claim)
    assert values
    assert all(type(value) in (str, int, bool) for value in values.values())
    assert all(-(1 << 63) <= value < 1 << 63 for value in values.values() if isinstance(value, int))


@each_action
def test_its_claim_comes_back_from_the_journal_as_it_was(action: AnyAction) -> None:
    host = _staged(action)
    claim = action.bind(_job(action, host), host)
    values = values_of(claim)
    assert action.claim_of(values) == claim
    assert action.claim_of({**values, "of_a_newer_version": 1}) == claim
    for shape in action.claims:
        assert dataclasses.is_dataclass(shape)
        optional = {each.name for each in dataclasses.fields(shape) if each.default is not dataclasses.MISSING}
        older = action.claim_of({name: value for name, value in values.items() if name not in optional})
        assert isinstance(older, action.claims)


@each_action
@given(data=st.data())
def test_a_damaged_claim_is_only_ever_a_permanent_failure(action: AnyAction, data: st.DataObject) -> None:
    names = st.sampled_from([each.name for shape in action.claims for each in dataclasses.fields(shape)])
    junk = data.draw(st.dictionaries(names, scalars, max_size=30))
    try:
        values = values_of(action.claim_of(junk))
        reason = ""
    except PermanentFailure as failure:
        values, reason = {}, failure.reason
    assert reason in {"", "claim_unreadable"}
    assert {name: junk[name] for name in values if name in junk}.items() <= values.items()


def _as_text(value: Scalar) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _assert_reported_well(action: AnyAction, report: Report) -> None:
    """Code and outputs are as declared."""
    reason = report.code.removeprefix(code(action.name, report.outcome, ""))
    assert re.fullmatch(r"[a-z]+(?:_[a-z]+)*", reason), report.code
    assert report.message
    promised: Mapping[str, FieldSpec] = {spec.name: spec for spec in action.outputs}
    for name, value in report.outputs.items():
        assert type(value) is KINDS[promised[name].type], name
