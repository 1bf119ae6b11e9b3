"""Where an assembled Kafka lies and how a JVM is started on it.

Called by `assemble.py`, which makes one, and by `node.py`, which runs it; calls nothing. It must never
start a process: it only says which command would.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

LOG_SETTINGS = Path(__file__).with_name("log4j2.xml")

# Enough for a node with a few hundred partitions; measured resident size at 256 MiB: 170-200 MiB.
HEAP_MIB = 256

# One collector thread and only the fast compiler: a broker of a test lives for seconds, on two cores.
SMALL_JVM = (f"-Xmx{HEAP_MIB}m", "-Xms64m", "-Xss512k", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")

# For measurements (`make bench`), where the compiler of a broker in production should be at work.
SERVER_JVM = (f"-Xmx{HEAP_MIB}m", f"-Xms{HEAP_MIB}m", "-XX:+UseSerialGC")


class KafkaUnavailable(Exception):
    """No real Kafka can be had on this machine; the message says what is missing and how to get it."""


def default_home() -> Path:
    """The cache directory: `DOUSE_TEST_KAFKA_HOME`, else `.cache/kafka` of the repository (ignored by git)."""
    configured = os.environ.get("DOUSE_TEST_KAFKA_HOME")
    return Path(configured).resolve() if configured else Path(__file__).resolve().parents[2] / ".cache" / "kafka"


@dataclass(frozen=True, slots=True)
class Distribution:
    """An assembled Kafka: a directory of jars, a Java to run them, and an archive of classes loaded ahead."""

    libs: Path
    java: str
    archive: Path

    def command(
        self, main_class: str, *arguments: str, log: Path, jvm: Sequence[str] = SMALL_JVM, record: Path | None = None
    ) -> list[str]:
        """The command line for `main_class`.

        `record` asks the JVM to write its class archive there when it ends in peace; otherwise the archive
        is used if it exists. A JVM that finds the archive unfit (another Java) goes on without it.
        """
        sharing: list[str] = []
        if record is not None:
            sharing = [f"-XX:ArchiveClassesAtExit={record}"]
        elif self.archive.exists():
            sharing = [f"-XX:SharedArchiveFile={self.archive}", "-Xshare:auto"]
        # The archive is valid only for the very same class path, so it is spelled out in a fixed order.
        class_path = os.pathsep.join(str(jar) for jar in sorted(self.libs.glob("*.jar")))
        settings = (f"-Dlog4j2.configurationFile={LOG_SETTINGS.as_uri()}", f"-Ddouse.kafka.log={log}")
        return [self.java, *sharing, *jvm, *settings, "-cp", class_path, main_class, *arguments]
