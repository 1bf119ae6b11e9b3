"""In-memory implementations of the ports; handed in by construction, never patched in."""
