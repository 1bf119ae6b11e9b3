"""Pure and fast: no network, no process, no sleep; the whole suite in seconds."""
