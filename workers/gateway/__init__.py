"""The gateway: what people and detectors hand in becomes records, and history becomes answers.

Called by wiring; talks to the world over ports, and to HTTP only in ``gateway.http``. Writes requests and events,
reads the history store. Holds no key that could sign a command, and must never decide what may be done to a node.
"""
