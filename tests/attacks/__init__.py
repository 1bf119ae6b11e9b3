"""Attacks from outside: a foreign process, another key, another user, a record written to the topic."""
