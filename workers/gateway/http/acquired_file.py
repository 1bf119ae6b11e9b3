"""An acquired file, log or snapshot as an answer: bytes, length, digest, and nothing that a browser would run.

Called by the download routes of both APIs.
"""

from typing import Any, Final

from starlette.background import BackgroundTask
from starlette.responses import Response, StreamingResponse

from workers.domain.log.record import Headers
from workers.gateway.acquired import download
from workers.gateway.http.services import GatewayServices
from workers.gateway.principals import Principal

SHA256: Final = "X-Checksum-SHA256"
"""The header that carries the content's digest, in hex."""

SUMMARY: Final = "Download what was acquired: a file, logs or a snapshot"

FILE: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "The content. It breaks off before its end if the stored object differs from what was acquired.",
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
        "headers": {SHA256: {"description": "SHA-256 of the content, in hex.", "schema": {"type": "string"}}},
    }
}


async def respond(services: GatewayServices, execution_id: str, *, person: Principal, parent: Headers) -> Response:
    """The answer. The name of the acquired file is not kept: an attacker may have chosen it."""
    found = await services.write(lambda: download(services.intake, execution_id, person=person, parent=parent))
    return StreamingResponse(
        found.chunks(),
        media_type="application/octet-stream",
        headers={
            "Content-Length": str(found.size),
            "Content-Disposition": f'attachment; filename="{found.name}"',
            SHA256: found.sha256,
        },
        background=BackgroundTask(found.close),
    )
