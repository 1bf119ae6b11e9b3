"""Single-threaded programs that tests run under a tracer: strace counts calls per thread."""
