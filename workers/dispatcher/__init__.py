"""The dispatcher: turns requests into signed, node-scoped commands, or into an answer why not.

Started by wiring; works against ports only. The only holder of the command-signing key; must never act on a target
and never end an execution that it has dispatched, save for a lost node or an undelivered command.
"""
