"""Attacks from outside, one file a theme: another key, another user, a foreign process or record, a killed worker."""
