"""Follows the keysets that operators publish on ``response.policy``, beside a worker's own work.

Made by wiring for every worker, stepped by a thread of its own. Reads the topic from its beginning at each start. What
does not verify changes nothing, and is logged, counted and audited. Also warns before the keyset expires. Must never
stop the worker: without the topic it keeps what it trusts.
"""

import hashlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Final, Protocol

from workers.domain.errors import ConfigError, WorkerError
from workers.domain.log import topics
from workers.domain.log.record import Earliest, Gap, Record
from workers.domain.outcome import Values
from workers.domain.trust.keyset import Keyset, days_left, expiry_warning
from workers.log.ports import LogReader
from workers.system.ports import Clock, Telemetry
from workers.wire.keys import KeysetFault
from workers.wire.ports import Recorder, RecordTx

POLL_S: Final = 0.5

AUDITED_MOST: Final = 32
"""Refused records that one start audits; each start reads the same ones again. All are counted."""


class Trusted(Protocol):
    """What a worker trusts, and how that changes."""

    @property
    def keyset(self) -> Keyset:
        """The version in force."""

    def take(self, document: bytes) -> None:
        """One document of the topic. Raises ``KeysetFault`` (nothing changed) or ``ConfigError`` (not kept)."""


class KeysetFeed:
    """One worker's reader of the topic."""

    def __init__(
        self,
        reader: LogReader,
        trusted: Trusted,
        *,
        begin: Callable[[], AbstractContextManager[RecordTx]],
        recorder: Recorder,
        telemetry: Telemetry,
        clock: Clock,
    ) -> None:
        """``begin`` is a transaction of the worker's outbox, for audit records."""
        self._reader = reader
        self._trusted = trusted
        self._begin = begin
        self._recorder = recorder
        self._telemetry = telemetry
        self._clock = clock
        self._assigned = False
        self._warned = ""
        self._refused = 0

    def step(self) -> None:
        """Read what is there, and warn once a day.

        Raises:
            TransientFailure: the log is unreachable, or has no such topic yet; call again.
        """
        self._warn()
        if not self._assigned:
            self._reader.assign({position: Earliest() for position in self._reader.partitions(topics.POLICY)})
            self._assigned = True
        for delivery in self._reader.poll(POLL_S):
            if not isinstance(delivery, Gap):
                self._take(delivery)

    def close(self) -> None:
        """Idempotent."""
        self._reader.close()

    def _take(self, record: Record) -> None:
        before = self._trusted.keyset
        try:
            self._trusted.take(record.value or b"")
        except KeysetFault as fault:
            self._refuse(record, fault.code, str(fault))
        except ConfigError as fault:
            self._telemetry.log("keyset_not_kept", level="error", message=fault.message)
        after = self._trusted.keyset
        if after is not before:
            detail: Values = {"before": before.version, "version": after.version, **_origin(record)}
            self._audit("keyset", detail)
            self._telemetry.log("keyset", message=f"version {after.version} came over the bus and is in force")
            self._warn()

    def _refuse(self, record: Record, code: str, message: str) -> None:
        self._telemetry.count("keys.refused", labels={"reason": code})
        self._refused += 1
        if self._refused > AUDITED_MOST:
            return
        detail: Values = {"reason": code, "version": self._trusted.keyset.version, **_origin(record)}
        self._telemetry.log("keyset_refused", level="error", **detail, message=message[:300])
        self._audit("keyset_refused", detail)

    def _audit(self, kind: str, detail: Values) -> None:
        try:
            with self._begin() as tx:
                self._recorder.audit(tx, kind, at_ns=self._clock.now_ns(), detail=detail)
        except WorkerError as error:  # a full disk or outbox must not keep a keyset from being taken up
            self._telemetry.log("keyset_not_audited", level="error", kind=kind, reason=error.reason)

    def _warn(self) -> None:
        keyset, now_ns = self._trusted.keyset, self._clock.now_ns()
        self._telemetry.gauge("keys.days_left", days_left(keyset, now_ns))
        self._telemetry.gauge("keys.version", keyset.version)
        warning = expiry_warning(keyset, now_ns)
        if warning and warning != self._warned:
            self._telemetry.log("keyset_expires", level="warning", message=warning)
        self._warned = warning


def _origin(record: Record) -> Values:
    digest = hashlib.sha256(record.value or b"").hexdigest()
    return {"log_id": record.position.log_id, "offset": record.offset, "sha256": digest}
