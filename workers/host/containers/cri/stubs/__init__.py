"""Generated from the ``.proto`` files beside them by ``make stubs``; a test compares. Imported at the first call."""
