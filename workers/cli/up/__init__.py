"""``douse up``: every worker on this machine, until it is told to stop."""
