"""Falco: an alert made into a ``RuntimeEvent``, and what Falco must print for an action to have a target."""
