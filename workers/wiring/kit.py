"""The parts that every worker is made of, each made once from its settings.

Used by the five composition functions, so that each of them shows only what is special to its worker. What is opened is
registered in an ``ExitStack`` and closed in reverse order, also when a later part cannot be made.
"""

import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack, closing
from typing import Protocol, TypeVar

from workers.domain.errors import ConfigError, Problem
from workers.domain.ids import RANDOM_BYTES, ChainId, InstanceId, NodeId, uuid7
from workers.domain.trust.keyset import KeyRole, Keyset, left_nodes
from workers.log.keysets import KeysetFeed
from workers.log.memory_outbox import MemoryOutbox
from workers.log.ports import LogWriter, Outbox, OutboxRow
from workers.log.readers import KafkaLogReader
from workers.log.relay import OutboxRelay
from workers.log.unsendable import Unsendable
from workers.log.writer import KafkaLogWriter
from workers.service import Accompanied
from workers.settings import WorkerSettings
from workers.system.clock import SystemClock
from workers.system.failpoints import failpoints
from workers.system.ports import Runnable
from workers.system.randomness import SystemRandomness
from workers.system.telemetry import telemetry
from workers.wire.avro import AvroCodec
from workers.wire.keys import NewestKeyset, load_private_key
from workers.wire.ports import RecordTx
from workers.wire.recorder import ChainRecorder
from workers.wire.signing import EnvelopeSigner, EnvelopeVerifier


class Closeable(Protocol):
    """Anything that holds a file, a connection or a lock."""

    def close(self) -> None:
        """Let go of it."""


C = TypeVar("C", bound=Closeable)


class Kit:
    """The common parts of one worker."""

    def __init__(self, worker: str, settings: WorkerSettings, opened: ExitStack) -> None:
        """``worker`` is the name in telemetry, audit records and chain ids.

        Raises:
            ConfigError: the key or the failpoints cannot be used.
        """
        self._worker = worker
        self._settings = settings
        self._opened = opened
        self.clock = SystemClock()
        self.randomness = SystemRandomness()
        self.codec = AvroCodec()
        self.instance_id = InstanceId(uuid7(self.clock.now_ns(), self.randomness.bytes(RANDOM_BYTES)))
        self.telemetry = telemetry(settings.telemetry, worker=worker, instance_id=self.instance_id)
        self.failpoints = failpoints(os.environ)
        self.signer = EnvelopeSigner(load_private_key(settings.keys.private_key), self.codec)
        self.recorder = ChainRecorder(worker, signer=self.signer, codec=self.codec)
        self._newest = NewestKeyset(settings.keys.keyset, settings.keys.newest)
        self._verifier = EnvelopeVerifier(self._newest.keyset, self.codec, clock=self.clock)
        self._newest.changed = self._verifier.trust
        self._left: tuple[Keyset, Mapping[NodeId, int]] | None = None

    def opened(self, resource: C) -> C:
        """The resource; it is closed with the worker."""
        self._opened.enter_context(closing(resource))
        return resource

    def keyset(self, role: KeyRole | None = None) -> Keyset:
        """The keyset in force: that of the settings, or a newer one that came over the bus.

        Raises:
            ConfigError: it cannot be used, or does not trust this worker's own key in the ``role`` that it needs: what
                such a worker signs would be refused one record after the other.
        """
        keyset, now_ns = self._newest.keyset, self.clock.now_ns()
        own = keyset.keys.get(self.signer.key_id)
        if role is None or (own is not None and own.role is role and not own.is_revoked(now_ns)):
            return keyset
        found = "does not list it" if own is None else f"lists a {'revoked ' if own.revoked else ''}{own.role} key"
        reason = f"is no {role} key: keyset version {keyset.version} {found}; see douse keys"
        raise ConfigError((Problem(str(self._settings.keys.private_key), reason),))

    def verifier(self, role: KeyRole | None = None) -> EnvelopeVerifier:
        """Trusts the keyset in force. Raises ``ConfigError`` as ``keyset``."""
        self.keyset(role)
        return self._verifier

    def left_nodes(self) -> Mapping[NodeId, int]:
        """Nodes that operators retired or revoked, and from when on."""
        keyset = self._newest.keyset
        if self._left is None or self._left[0] is not keyset:
            self._left = (keyset, left_nodes(keyset))
        return self._left[1]

    def following(self, worker: Runnable, begin: Callable[[], AbstractContextManager[RecordTx]]) -> Runnable:
        """The worker, taking up the keysets that operators publish; ``begin`` is a transaction of its outbox."""
        feed = KeysetFeed(
            KafkaLogReader(self._settings.kafka, telemetry=self.telemetry, clock=self.clock),
            self._newest,
            begin=begin,
            recorder=self.recorder,
            telemetry=self.telemetry,
            clock=self.clock,
        )
        return Accompanied(worker, feed.step, name="keysets", close=feed.close, telemetry=self.telemetry)

    def reader(self) -> KafkaLogReader:
        """A reader for one thread."""
        return self.opened(KafkaLogReader(self._settings.kafka, telemetry=self.telemetry, clock=self.clock))

    def writer(self) -> KafkaLogWriter:
        """A writer for one thread."""
        return self.opened(KafkaLogWriter(self._settings.kafka, telemetry=self.telemetry, clock=self.clock))

    def memory_outbox(self, chain_id: str = "") -> MemoryOutbox:
        """An outbox that is lost with the process; by default each start is a new audit chain."""
        return MemoryOutbox(ChainId(chain_id or f"{self._worker}/{self.instance_id}"))

    def relay(
        self, outbox: Outbox, writer: LogWriter, *, refused: Callable[[OutboxRow, str], None] | None
    ) -> OutboxRelay:
        """Moves an outbox to the log; ``refused`` handles what the log will never take."""
        return OutboxRelay(
            outbox, writer, failpoints=self.failpoints, telemetry=self.telemetry, clock=self.clock, refused=refused
        )

    def unsendable(
        self, begin: Callable[[], AbstractContextManager[RecordTx]], *, now_ns: Callable[[], int] | None = None
    ) -> Unsendable:
        """A relay's ``refused`` that leaves an audit record in a transaction of ``begin``."""
        return Unsendable(begin, self.recorder, now_ns or self.clock.now_ns, self.telemetry)
