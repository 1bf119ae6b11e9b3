"""What every worker process needs of its own surroundings: time, randomness, files, log lines, telemetry, retries."""
