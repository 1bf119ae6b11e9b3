"""Who may say what: keysets, envelopes, authority, and the audit chain."""
