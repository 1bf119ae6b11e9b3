"""Fetch Kafka's jars once and warm them up: `python -m tests.kafka.assemble`, which is `make kafka`.

Called by the Makefile and by `fixtures.py`; calls Maven, then `cluster.py` for one training run whose loaded
classes are archived (a start then takes 1 s, not 2.7 s). It must never leave a half-made directory under
its final name.
"""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

from tests.kafka.cluster import KafkaCluster
from tests.kafka.distribution import Distribution, KafkaUnavailable, default_home
from tests.kafka.node import KafkaFailed

POM = Path(__file__).with_name("pom.xml")
OLDEST_JAVA = 17  # what Kafka 4's brokers are compiled for
MAVEN_TIMEOUT_S = 600


def assemble(home: Path | None = None) -> Distribution:
    """The assembled Kafka, made now if it isn't there. Raises KafkaUnavailable naming what is missing."""
    home = home or default_home()
    java = find_java()
    home.mkdir(parents=True, exist_ok=True)
    version = hashlib.sha256(POM.read_bytes()).hexdigest()[:12]
    runtime = hashlib.sha256(os.path.realpath(java).encode()).hexdigest()[:8]
    kafka = Distribution(home / f"libs-{version}", java, home / f"classes-{version}-{runtime}.jsa")
    with (home / "lock").open("w") as lock:  # several suites may share one home
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not kafka.libs.exists():
            fetch(kafka.libs)
        if not kafka.archive.exists():
            archive_classes(kafka)
    return kafka


def find_java() -> str:
    java = shutil.which("java")
    if java is None:
        raise KafkaUnavailable("no `java` on PATH: install a Java 17 runtime (Debian: default-jre-headless)")
    output = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr
    found = re.search(r'version "(\d+)', output)
    if found is None or int(found.group(1)) < OLDEST_JAVA:
        raise KafkaUnavailable(f"Kafka 4 needs Java {OLDEST_JAVA} or newer, `java -version` says: {output.strip()}")
    return java


def fetch(libs: Path) -> None:
    """Have Maven copy the jars that `pom.xml` names, and what they need, into `libs`."""
    maven = shutil.which("mvn")
    if maven is None:
        raise KafkaUnavailable("no `mvn` on PATH to fetch Kafka with: install Maven (Debian: maven)")
    part = libs.with_name(f"{libs.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    command = [maven, "-q", "-B", "-f", str(POM), "dependency:copy-dependencies"]
    command += ["-DincludeScope=runtime", f"-DoutputDirectory={part}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=MAVEN_TIMEOUT_S)
    except subprocess.TimeoutExpired as error:
        raise KafkaUnavailable(f"Maven didn't finish within {MAVEN_TIMEOUT_S} s") from error
    if done.returncode or not list(part.glob("kafka_*.jar")):
        output = "\n".join((done.stdout + done.stderr).strip().splitlines()[-8:])
        raise KafkaUnavailable(f"Maven could not fetch Kafka: {output}")
    part.rename(libs)


def archive_classes(kafka: Distribution) -> None:
    """Run one broker through a little of everything and keep the classes it loaded. Only speed depends on it."""
    record = kafka.archive.with_suffix(".part")
    record.unlink(missing_ok=True)
    with KafkaCluster(kafka, record=record) as cluster:
        cluster.create_topic("training")
        if not cluster.nodes[1].terminate(timeout_s=60):
            raise KafkaFailed(f"the training run didn't end in peace\n{cluster.logs()}")
    if record.exists():
        record.rename(kafka.archive)
    else:
        print("kafka: this Java wrote no class archive; brokers will start more slowly", file=sys.stderr)


def main() -> int:
    began = time.monotonic()
    try:
        kafka = assemble()
    except (KafkaUnavailable, KafkaFailed) as error:
        print(f"kafka: {error}", file=sys.stderr)
        return 1
    jars = list(kafka.libs.glob("*.jar"))
    megabytes = sum(jar.stat().st_size for jar in jars) / 1e6
    broker = next(kafka.libs.glob("kafka_*.jar")).stem
    print(f"kafka: {broker}, {len(jars)} jars, {megabytes:.0f} MB in {kafka.libs}, {time.monotonic() - began:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
