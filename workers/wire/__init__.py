"""Records as bytes, and who signed them: Avro, envelopes, keys, and the events that detectors write."""
