"""The port ``Telemetry``: nothing leaves the machine unless an endpoint is set; the trace context travels either way.

Made by wiring. OpenTelemetry is imported only where there is an endpoint: a node's start must not pay for what it
does not use.
"""

from workers.settings import TelemetrySettings
from workers.system.logs import StructuredLog
from workers.system.ports import Telemetry
from workers.system.telemetry.quiet import QuietTelemetry


def telemetry(settings: TelemetrySettings, *, worker: str, instance_id: str = "") -> Telemetry:
    """A worker's telemetry; ``instance_id`` tells two runs of one worker apart.

    Raises:
        ConfigError: the endpoint is no HTTP address.
    """
    bound = {"worker": worker} | ({"instance": instance_id} if instance_id else {})
    log = StructuredLog(settings.log_format, settings.log_level, bound=bound)
    log.adopt("asyncio", "uvicorn")  # a stranger's connection makes them write, a traceback each time
    if not settings.otlp_endpoint:
        return QuietTelemetry(log)
    from workers.system.telemetry.exporting import exporting_telemetry

    return exporting_telemetry(settings.otlp_endpoint, log, worker=worker, instance_id=instance_id)


def quiet(level: str = "warning") -> Telemetry:
    """For the command line: lines for a console, no metrics, no traces."""
    return QuietTelemetry(StructuredLog("console", level))


__all__ = ["quiet", "telemetry"]
