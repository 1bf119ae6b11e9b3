"""A Kafka that is somebody else's: `DOUSE_TEST_KAFKA=host:port` names it.

Called by `fixtures.py`. Tests may use it, but must never kill, pause or restart what they didn't start.
"""

from typing import NoReturn

from tests.kafka.target import KafkaTarget


class NotStartedHere(Exception):
    """DOUSE_TEST_KAFKA names a cluster that this suite didn't start, so it won't kill, pause or restart it."""


class ExternalKafka(KafkaTarget):
    """An existing cluster: everything but the violence."""

    def _refuse(self, what: str) -> NoReturn:
        raise NotStartedHere(
            f"will not {what} {self.bootstrap_servers}: DOUSE_TEST_KAFKA names a cluster that these tests "
            "didn't start; unset it to let them start their own"
        )

    def kill(self, node: int = 1) -> NoReturn:
        self._refuse("kill")

    def pause(self, node: int = 1) -> NoReturn:
        self._refuse("pause")

    def resume(self, node: int = 1) -> NoReturn:
        self._refuse("resume")

    def restart(self, node: int = 1) -> NoReturn:
        self._refuse("restart")
