"""The promises, each an object asserted under its own name."""
