"""Kafka's terms as plain values: records and positions, topics and their data, and how a node's partition is found."""
