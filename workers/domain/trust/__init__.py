"""Trust: keysets, envelopes, which signatory may sign what, and the audit chain."""
