"""The pure part: values, decisions and folds; no I/O, clock, thread, randomness or third-party library."""
