"""The responder, put together. Imported by ``wiring.ROLES`` only when a responder starts."""

from contextlib import ExitStack

from workers.domain.trust.keyset import KeyRole
from workers.log.readers import KafkaGroupReader
from workers.responder.decider import Decider
from workers.responder.loop import Loop
from workers.responder.responder import Responder
from workers.settings import ResponderSettings
from workers.system.ports import Runnable
from workers.wire.event_reader import DetectorEvents
from workers.wiring.kit import Kit
from workers.wiring.rules import load_rules


def responder(settings: ResponderSettings) -> Runnable:
    """The responder.

    Raises:
        ConfigError: rules, key, keyset or broker settings cannot be used.
    """
    rules = load_rules(settings.rules)
    with ExitStack() as opened:
        kit = Kit("responder", settings, opened)
        outgoing, writer = kit.memory_outbox(), kit.writer()
        reader = kit.opened(
            KafkaGroupReader(
                settings.kafka, settings.group, member=settings.member, telemetry=kit.telemetry, clock=kit.clock
            )
        )
        decider = Decider(
            rules=rules,
            oldest_event_s=settings.oldest_event_s,
            events=DetectorEvents(kit.codec, kit.verifier(KeyRole.RESPONDER)),
            signer=kit.signer,
            recorder=kit.recorder,
            outgoing=outgoing,
            clock=kit.clock,
            telemetry=kit.telemetry,
        )
        responder = Responder(
            decider=decider,
            oldest_event_s=settings.oldest_event_s,
            unsigned_topics=settings.unsigned_topics,
            reader=reader,
            outgoing=outgoing,
            relay=kit.relay(outgoing, writer, refused=decider.report_unsendable),
            clock=kit.clock,
            failpoints=kit.failpoints,
        )
        loop = Loop(responder, telemetry=kit.telemetry, close=opened.pop_all().close)
        return kit.following(loop, outgoing.begin)
