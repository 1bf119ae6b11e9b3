"""The dispatcher: turns requests into signed commands for one node each, or into an outcome that says why not.

Started by wiring; works against ports only. It alone holds the key that signs commands. It never acts on a target, and
never ends an execution that it has dispatched, except for a node that lost its journal and an undelivered command.

The way of a request: ``loop`` → ``dispatcher`` (one transaction for a batch) → ``intake`` (form, duplicates) →
``release`` (may this step run, and on which node) → ``signing`` (the command). ``follow`` and ``timers`` go on from
there when a node answers or time passes.
"""
