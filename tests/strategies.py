"""Hypothesis strategies for every record that travels, and for the values they are made of.

The records are valid in type, not in meaning: any text, any number that fits the wire.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from workers.domain.command import ActionCommand
from workers.domain.event import PRIORITIES, ContainerRef, ProcessRef, RuntimeEvent
from workers.domain.ids import RANDOM_BYTES, uuid7
from workers.domain.log.topology import Topology
from workers.domain.node_state import CommandPosition, DeadLetter, NodeState, Progress
from workers.domain.outcome import Outcome, PostCondition, Stage
from workers.domain.request import ActionRequest, Actor, ActorKind, Causation, Step, Verb
from workers.domain.result import ActionResult
from workers.domain.target import ContainerTarget, FileTarget, NetworkTarget, ProcessTarget, ReviewedFile
from workers.domain.targets.custody import Custody
from workers.domain.targets.file import Extent, FileAttribute, FileIdentity
from workers.domain.targets.manifest import Manifest, ManifestState
from workers.domain.trust.audit import AuditRecord
from workers.domain.trust.envelope import Envelope, PayloadType

INT64 = (-(1 << 63), (1 << 63) - 1)

# Text that UTF-8 can carry: everything but lone surrogates.
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
longs = st.integers(*INT64)
counts = st.integers(0, INT64[1])
moments = st.integers(0, 4_000_000_000_000_000_000)
blobs = st.binary(max_size=40)
scalars = st.one_of(longs, st.booleans(), texts)
values = st.dictionaries(texts, scalars, max_size=4).map(MappingProxyType)
"""Flat values; integers, booleans and text side by side."""

hexes = st.text("0123456789abcdef", min_size=32, max_size=32)
container_ids = st.text("0123456789abcdef", min_size=12, max_size=64)
execution_ids = st.builds(uuid7, moments, st.binary(min_size=RANDOM_BYTES, max_size=RANDOM_BYTES))
headers = st.lists(st.tuples(texts, blobs), max_size=3).map(tuple)

process_refs = st.builds(ProcessRef, longs, st.none() | longs, texts, texts, texts)
process_lines = st.lists(process_refs, min_size=1, max_size=4).map(tuple)
process_targets = st.builds(ProcessTarget, process_lines, moments, texts)
container_targets = st.builds(ContainerTarget, container_ids, moments)
unsigned = st.integers(0, (1 << 64) - 1)
reviewed_files = st.builds(ReviewedFile, unsigned, unsigned, counts, longs, longs, texts, counts)
file_targets = st.builds(FileTarget, blobs, moments, container_ids | st.just(""), st.none() | reviewed_files)
network_targets = st.builds(NetworkTarget, moments, container_ids | st.just(""))
targets = st.one_of(process_targets, container_targets, file_targets, network_targets)

actors = st.builds(Actor, st.sampled_from(ActorKind), texts)
causations = st.builds(Causation, texts, texts, st.integers(0, 3))
steps = st.builds(Step, execution_ids, texts, st.none() | targets, values, st.lists(texts, max_size=2).map(tuple))
post_conditions = st.builds(PostCondition, texts, st.booleans(), texts)
command_positions = st.builds(CommandPosition, texts, texts, counts, counts)


def _records(cls: type, fields: Mapping[str, SearchStrategy[Any]]) -> SearchStrategy[Any]:
    """Every field of the class has a strategy, so that a new field cannot stay untested."""
    missing = {field.name for field in dataclasses.fields(cls)} ^ set(fields)
    assert not missing, f"tests/strategies.py and {cls.__name__} differ in {sorted(missing)}"
    return st.builds(cls, **fields)


def _tuples(items: SearchStrategy[Any], limit: int = 3) -> SearchStrategy[tuple[Any, ...]]:
    return st.lists(items, max_size=limit).map(tuple)


events: SearchStrategy[RuntimeEvent] = _records(
    RuntimeEvent,
    {
        **dict.fromkeys(("event_id", "detector", "source", "rule", "host", "message"), texts),
        **dict.fromkeys(("file_path", "cluster", "namespace", "workload", "caused_by"), texts),
        "priority": st.sampled_from(PRIORITIES),
        "occurred_at_ns": moments,
        "tags": _tuples(texts),
        "process_line": _tuples(process_refs),
        "container": st.none() | st.builds(ContainerRef, container_ids, texts, texts),
        "fields": values,
        "labels": st.dictionaries(texts, texts, max_size=3),
    },
)

requests: SearchStrategy[ActionRequest] = _records(
    ActionRequest,
    {
        **dict.fromkeys(("host", "reason", "caller_id", "cooldown_key"), texts),
        **dict.fromkeys(("ttl_s", "undo_after_s", "cooldown_s"), counts),
        **dict.fromkeys(("requested_at_ns", "detected_at_ns"), moments),
        "dry_run": st.booleans(),
        "verb": st.sampled_from(Verb),
        "actor": actors,
        "steps": _tuples(steps),
        "subject": execution_ids | st.just(""),
        "causation": causations,
        "echo": values,
    },
)

commands: SearchStrategy[ActionCommand] = _records(
    ActionCommand,
    {
        **dict.fromkeys(("action", "parameters_sha256", "incarnation", "reason", "caller_id"), texts),
        **dict.fromkeys(("issued_at_ns", "not_before_ns", "expires_at_ns", "detected_at_ns"), moments),
        **dict.fromkeys(("node_id", "node_key"), hexes),
        **dict.fromkeys(("parameters", "annotations"), values),
        "command_id": execution_ids,
        "target": st.none() | targets,
        "timeout_s": counts,
        "actor": actors,
        "dry_run": st.booleans(),
        "approval_class": st.sampled_from(["auto", "one", "two"]),
        "approvals": _tuples(blobs),
        "undo_of": execution_ids | st.just(""),
        "causation": causations,
    },
)

results: SearchStrategy[ActionResult] = _records(
    ActionResult,
    {
        **dict.fromkeys(("incarnation", "action", "code", "message", "cause", "alarm", "command_sha256"), texts),
        **dict.fromkeys(("record_no", "attempt", "seq"), counts),
        **dict.fromkeys(("at_ns", "deadline_ns"), moments),
        **dict.fromkeys(("effect_holds", "late"), st.booleans()),
        **dict.fromkeys(("outputs", "configuration"), values),
        "execution_id": execution_ids,
        "producer": st.sampled_from(["node", "dispatcher"]),
        "node_id": hexes | st.just(""),
        "stage": st.sampled_from(Stage),
        "outcome": st.none() | st.sampled_from(Outcome),
        "post_condition": st.none() | post_conditions,
        "undo_of": execution_ids | st.just(""),
        "request": st.none() | requests,
    },
)

audit_records: SearchStrategy[AuditRecord] = _records(
    AuditRecord,
    {
        **dict.fromkeys(("chain_id", "worker", "kind", "actor"), texts),
        "record_no": counts,
        "previous": st.binary(min_size=32, max_size=32),
        "at_ns": moments,
        "execution_id": execution_ids | st.just(""),
        "detail": values,
    },
)

node_states: SearchStrategy[NodeState] = _records(
    NodeState,
    {
        **dict.fromkeys(("incarnation", "instance_id", "boot_id", "machine_key"), texts),
        **dict.fromkeys(("zone", "version", "health", "cluster"), texts),
        **dict.fromkeys(("record_no", "queued", "running", "unpublished"), counts),
        **dict.fromkeys(("node_id", "node_key"), hexes),
        **dict.fromkeys(("host_names", "actions", "runtimes"), _tuples(texts)),
        "at_ns": moments,
        "positions": _tuples(command_positions),
        "labels": values,
        "gathering": _tuples(st.builds(Progress, execution_ids, counts, counts)),
    },
)

dead_letters: SearchStrategy[DeadLetter] = _records(
    DeadLetter,
    {
        **dict.fromkeys(("topic", "log_id", "sha256", "reason", "message", "worker"), texts),
        **dict.fromkeys(("partition", "offset", "size"), counts),
        **dict.fromkeys(("key", "value"), st.none() | blobs),
        "headers": headers,
        "at_ns": moments,
    },
)

envelopes: SearchStrategy[Envelope] = _records(
    Envelope,
    {
        "payload_type": st.sampled_from([kind.value for kind in PayloadType]) | texts,
        "payload": blobs,
        "key_id": hexes,
        "signature": st.binary(min_size=64, max_size=64),
        "path": _tuples(blobs),
    },
)

topologies: SearchStrategy[Topology] = _records(
    Topology, {"zone": texts, "topic": texts, "generation": counts, "partitions": counts, "at_ns": moments}
)

identities = st.builds(FileIdentity, st.integers(0, (1 << 64) - 1), st.integers(0, (1 << 64) - 1))

manifests: SearchStrategy[Manifest] = _records(
    Manifest,
    {
        **dict.fromkeys(("size", "mode", "uid", "gid", "links", "flags", "object_size", "run_pid"), counts),
        **dict.fromkeys(("atime_ns", "mtime_ns", "ctime_ns", "begun_at_ns", "run_started_at_ns"), moments),
        **dict.fromkeys(("clear_flags", "disarm", "content_changed", "allow_remote"), st.booleans()),
        **dict.fromkeys(("sha256", "object_sha256", "reason", "container_id", "runtime", "approval_class"), texts),
        **dict.fromkeys(("path", "parking"), blobs),
        **dict.fromkeys(("parent", "file", "root"), identities),
        "execution_id": execution_ids,
        "state": st.sampled_from(ManifestState),
        "attributes": _tuples(st.builds(FileAttribute, blobs, blobs)),
        "extents": _tuples(st.builds(Extent, counts, counts)),
        "restored_by": execution_ids | st.just(""),
    },
)

custodies: SearchStrategy[Custody] = _records(
    Custody,
    {
        **dict.fromkeys(("size", "mode", "uid", "gid", "links"), counts),
        **dict.fromkeys(("mtime_ns", "ctime_ns", "taken_at_ns", "run_started_at_ns"), moments),
        **dict.fromkeys(("action", "sha256", "asked_by", "reason", "event_id", "source", "container_id"), texts),
        "execution_id": execution_ids,
        "node_id": texts,
        "path": blobs,
        **dict.fromkeys(("file", "root"), identities),
        **dict.fromkeys(("content_changed", "truncated"), st.booleans()),
    },
)

RECORDS: Mapping[type, SearchStrategy[Any]] = {
    ActionCommand: commands,
    ActionRequest: requests,
    ActionResult: results,
    AuditRecord: audit_records,
    Custody: custodies,
    DeadLetter: dead_letters,
    Envelope: envelopes,
    Manifest: manifests,
    NodeState: node_states,
    RuntimeEvent: events,
    Topology: topologies,
}
"""Every class that travels."""

records = st.one_of(*RECORDS.values())
