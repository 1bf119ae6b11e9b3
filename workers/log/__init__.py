"""The doorway to Kafka: only these modules import confluent_kafka. Bytes in, bytes out; what they mean is elsewhere."""
