"""A real Apache Kafka for the tests: assembled from Maven Central, started, killed, paused and restarted."""
