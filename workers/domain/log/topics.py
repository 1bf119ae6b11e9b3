"""The names of the topics, once. Their purpose, writers and retention are data in ``topics/``.

A test holds these names against that catalogue. The command topic's name depends on the zone: see
``domain.log.routing``."""

from typing import Final

FALCO_EVENTS: Final = "falco.events"
RUNTIME_EVENTS: Final = "runtime.events"
REQUESTS_PEOPLE: Final = "response.requests.people"
REQUESTS_RULES: Final = "response.requests.rules"
RESULTS: Final = "response.results"
AUDIT: Final = "response.audit"
DEAD_LETTERS: Final = "response.deadletter"
NODES: Final = "fleet.nodes"
TOPOLOGY: Final = "fleet.topology"
POLICY: Final = "response.policy"
