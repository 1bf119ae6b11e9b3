"""The embedded broker: librdkafka's own mock cluster, which every confluent-kafka wheel carries.

Called by ``douse up`` and ``douse demo`` (through ``wiring``) and by tests; calls librdkafka through ctypes. It
speaks the real protocol to any process on loopback. For a first look and for tests: it forgets everything when it
closes, keeps 5 MiB a partition, has no admin API, no compaction, no look-up by time, and creates any topic that is
written to. Must never be where a promise about durability is tested.
"""

import ctypes
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Self

import confluent_kafka.cimpl

from workers.domain.errors import ConfigError, PermanentFailure

KEPT_BYTES: Final = 5 * 1024 * 1024
"""What it keeps of a partition (librdkafka's constant): the oldest batches beyond that are gone."""

_PRODUCER: Final = 0
_ERROR_BYTES: Final = 512
_REBALANCE_DELAY_MS: Final = 10
"""How long a new group waits for more members. librdkafka's mock waits 3 s, as a real broker does; here all members
are on one machine and a first look should not wait."""

_HANDLE = ctypes.c_void_p
_TEXT = ctypes.c_char_p
_INT = ctypes.c_int

_SIGNATURES: Final[Mapping[str, tuple[Any, Sequence[Any]]]] = {
    "rd_kafka_conf_new": (_HANDLE, ()),
    "rd_kafka_conf_set_log_cb": (None, (_HANDLE, ctypes.c_void_p)),
    "rd_kafka_new": (_HANDLE, (_INT, _HANDLE, _TEXT, ctypes.c_size_t)),
    "rd_kafka_destroy": (None, (_HANDLE,)),
    "rd_kafka_mock_cluster_new": (_HANDLE, (_HANDLE, _INT)),
    "rd_kafka_mock_cluster_destroy": (None, (_HANDLE,)),
    "rd_kafka_mock_cluster_bootstraps": (_TEXT, (_HANDLE,)),
    "rd_kafka_mock_topic_create": (_INT, (_HANDLE, _TEXT, _INT, _INT)),
}


def load_library(more: Mapping[str, tuple[Any, Sequence[Any]]] | None = None) -> ctypes.CDLL:
    """librdkafka as confluent-kafka ships it, with the types of what is called here (and of ``more``) declared.

    Raises:
        ConfigError: this build of confluent-kafka has no mock cluster.
    """
    # The extension module links the library under a name that changes with every wheel; looking a symbol up through
    # the module finds it in either.
    library = ctypes.CDLL(confluent_kafka.cimpl.__file__)
    missing = []
    for name, (result, arguments) in {**_SIGNATURES, **(more or {})}.items():
        function = getattr(library, name, None)
        if function is None:
            missing.append(name)
            continue
        function.restype, function.argtypes = result, list(arguments)
    if missing:
        raise ConfigError(
            f"the embedded broker is not in this build of confluent-kafka {confluent_kafka.__version__} "
            f"({missing[0]} is missing): install its wheel from the package index, or name a real cluster"
        )
    return library


class EmbeddedBroker:
    """A broker inside this process. Use as a context manager; clients of any process on this machine may connect."""

    def __init__(self, topics: Mapping[str, int], *, brokers: int = 1) -> None:
        """``topics`` maps a name to its number of partitions.

        Raises:
            ConfigError: this build of confluent-kafka has no mock cluster.
            PermanentFailure: it could not be started (``broker_start``), or refuses a topic (``broker_topic``).
        """
        self._library = load_library()
        self._client = self._new_client()
        self._cluster: int | None = self._library.rd_kafka_mock_cluster_new(self._client, brokers)
        if not self._cluster:
            self.close()
            raise PermanentFailure("the embedded broker cannot listen on loopback", code="broker_start")
        self._shorten_first_rebalance()
        try:
            for topic, partitions in topics.items():
                self.create_topic(topic, partitions)
        except PermanentFailure:
            self.close()
            raise

    @property
    def bootstrap_servers(self) -> str:
        """Where clients connect: addresses on 127.0.0.1, ports chosen by the kernel."""
        return str(self._library.rd_kafka_mock_cluster_bootstraps(self._open()).decode())

    def create_topic(self, topic: str, partitions: int) -> None:
        """Raises ``PermanentFailure`` (``broker_topic``) when it is there already or cannot be."""
        error = self._library.rd_kafka_mock_topic_create(self._open(), topic.encode(), partitions, 1)
        if error:
            raise PermanentFailure(
                f"the embedded broker refuses topic {topic} with {partitions} partitions (librdkafka error {error})",
                code="broker_topic",
            )

    def close(self) -> None:
        """Disconnect every client and forget everything. Idempotent."""
        cluster, self._cluster = self._cluster, None
        client, self._client = self._client, None
        if cluster:
            self._library.rd_kafka_mock_cluster_destroy(cluster)
        if client:
            self._library.rd_kafka_destroy(client)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open(self) -> int:
        if not self._cluster:
            raise PermanentFailure("the embedded broker is closed", code="broker_closed")
        return self._cluster

    def _new_client(self) -> int | None:
        # The cluster needs a client for its bookkeeping; it never connects anywhere. Its log would go to stderr.
        configuration = self._library.rd_kafka_conf_new()
        self._library.rd_kafka_conf_set_log_cb(configuration, None)
        message = ctypes.create_string_buffer(_ERROR_BYTES)
        client: int | None = self._library.rd_kafka_new(_PRODUCER, configuration, message, _ERROR_BYTES)
        if not client:
            raise PermanentFailure(f"the embedded broker: {message.value.decode()}", code="broker_start")
        return client

    def _shorten_first_rebalance(self) -> None:
        # Younger than the rest of the API, and only a matter of comfort: where it is missing groups start slowly.
        shorten = getattr(self._library, "rd_kafka_mock_group_initial_rebalance_delay_ms", None)
        if shorten is not None:
            shorten.restype, shorten.argtypes = None, [_HANDLE, ctypes.c_int32]
            shorten(self._open(), _REBALANCE_DELAY_MS)
