"""Single-threaded programs that tests kill or make fail at chosen system calls: strace counts calls per thread."""
