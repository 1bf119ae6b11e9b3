"""A real Apache Kafka for the test-suite: assembled from Maven Central, started, killed, paused and restarted by tests."""
