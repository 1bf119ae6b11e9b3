"""The pure part: words, decisions and folds; no I/O, clock, thread, randomness or third-party library."""
