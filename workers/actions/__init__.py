"""The catalogue of actions, one file an action; run by the node worker, described by the gateway and the CLI.

An action knows core, ports and workers.action; it must never know another action or an adapter.
"""
