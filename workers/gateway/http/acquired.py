"""An acquired file, log or snapshot as an answer: bytes, length, digest, and nothing that a browser would run.

Called by the routes of both faces.
"""

from typing import Any, Final

from starlette.background import BackgroundTask
from starlette.responses import Response, StreamingResponse

from workers.gateway.acquired import Download

SHA256: Final = "X-Checksum-SHA256"
"""The header that carries the content's digest, in hex."""

FILE: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "The content. It breaks off before its end where the store has something else.",
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
        "headers": {SHA256: {"description": "SHA-256 of the content, in hex.", "schema": {"type": "string"}}},
    }
}


def of_download(download: Download) -> Response:
    """The answer; a file keeps no name of its own, for an attacker chose it."""
    return StreamingResponse(
        download.chunks(),
        media_type="application/octet-stream",
        headers={
            "Content-Length": str(download.size),
            "Content-Disposition": f'attachment; filename="{download.name}"',
            SHA256: download.sha256,
        },
        background=BackgroundTask(download.close),
    )
