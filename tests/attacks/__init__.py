"""Attacks from outside, one file a theme: a foreign process, another key, another user, a killed worker."""
