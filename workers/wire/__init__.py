"""Records as bytes, and their signatures: Avro, envelopes, keys, and the events that detectors write."""
