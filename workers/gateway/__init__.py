"""The gateway: turns what people and detectors submit into records, and history into answers.

Called by wiring; uses ports, and HTTP only in ``gateway.http``. Writes requests and events,
reads the history store. Holds no key that could sign a command, and must never decide what may be done to a node.
"""
