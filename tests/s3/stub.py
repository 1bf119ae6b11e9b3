"""An S3 server in this process that lies, fails and forgets on demand; it believes any signature.

No test of who may do what: the real server is for that. `plan` holds what the next requests get instead of service:
a status (with S3's error, or as a proxy would say it), `lost` (served, and the answer never sent), `drop` (said to be
stored, and not). `lying_tags` gives every answer a tag that is none.
"""

from __future__ import annotations

import hashlib
import threading
from collections import defaultdict
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

_ERROR = "<?xml version='1.0'?><Error><Code>{}</Code><Message>stub</Message><Resource>/</Resource></Error>"


class Stub:
    """Use as a context manager."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.metadata: dict[str, Mapping[str, str]] = {}
        self.uploads: dict[str, tuple[str, dict[int, bytes]]] = {}
        self.plan: dict[str, list[str]] = defaultdict(list)
        """By method, or `FINISH` for the request that puts parts together."""
        self.lying_tags = False
        self.readable = True
        self.requests: list[str] = []
        self.writes: dict[str, int] = defaultdict(int)
        """How often an object really got its name."""

    def __enter__(self) -> Self:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"at": self}))
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def tag(self, data: bytes) -> str:
        return '"' + ("0" * 32 if self.lying_tags else hashlib.md5(data, usedforsecurity=False).hexdigest()) + '"'


class _Handler(BaseHTTPRequestHandler):
    at: Stub
    protocol_version = "HTTP/1.1"

    def do_PUT(self) -> None:
        body, key, query = self._read()
        if self._planned("PUT", key, body):
            return None
        if "uploadId" in query:
            upload = self.at.uploads.get(query["uploadId"])
            if upload is None:
                return self._error(404, "NoSuchUpload")
            upload[1][int(query["partNumber"])] = body
            return self._answer(200, headers={"ETag": self.at.tag(body)})
        if key in self.at.objects:
            return self._error(412, "PreconditionFailed")
        self._store(key, body)
        return self._answer(200, headers={"ETag": self.at.tag(body)})

    def do_POST(self) -> None:
        body, key, query = self._read()
        if self._planned("FINISH" if "uploadId" in query else "POST", key, body):
            return None
        if "uploads" in query:
            upload = f"upload-{len(self.at.requests)}"
            self.at.uploads[upload] = (key, {})
            return self._answer(200, f"<R><UploadId>{upload}</UploadId></R>")
        found = self.at.uploads.get(query["uploadId"])
        if found is None:
            return self._error(404, "NoSuchUpload")
        if key in self.at.objects:
            return self._error(412, "PreconditionFailed")
        self._store(key, b"".join(part for _, part in sorted(found[1].items())))
        del self.at.uploads[query["uploadId"]]
        return self._answer(200, "<CompleteMultipartUploadResult/>")

    def do_GET(self) -> None:
        _, key, query = self._read()
        if self._planned("GET", key, b""):
            return None
        if "uploads" in query:
            rows = "".join(
                f"<Upload><Key>{key}</Key><UploadId>{upload}</UploadId></Upload>"
                for upload, (key, _) in self.at.uploads.items()
            )
            return self._answer(200, f"<ListMultipartUploadsResult>{rows}</ListMultipartUploadsResult>")
        if "uploadId" in query:
            parts = self.at.uploads[query["uploadId"]][1]
            rows = "".join(
                f"<Part><PartNumber>{number}</PartNumber><ETag>{self.at.tag(data)}</ETag><Size>{len(data)}</Size></Part>"
                for number, data in parts.items()
            )
            return self._answer(200, f"<ListPartsResult>{rows}</ListPartsResult>")
        if key not in self.at.objects:
            return self._error(404, "NoSuchKey")
        return self._answer(200, self.at.objects[key])

    def do_HEAD(self) -> None:
        _, key, _ = self._read()
        if self._planned("HEAD", key, b""):
            return None
        if not self.at.readable:
            return self._answer(403)
        if key not in self.at.objects:
            return self._answer(404)
        return self._answer(200, self.at.objects[key], headers=self.at.metadata[key])

    def do_DELETE(self) -> None:
        _, key, query = self._read()
        if self._planned("DELETE", key, b""):
            return None
        self.at.uploads.pop(query.get("uploadId", ""), None)
        return self._answer(204)

    def _store(self, key: str, data: bytes) -> None:
        self.at.objects[key] = data
        self.at.metadata[key] = {name: value for name, value in self.headers.items() if name.startswith("x-amz-meta-")}
        self.at.writes[key] += 1

    def _planned(self, what: str, key: str, body: bytes) -> bool:
        self.at.requests.append(f"{what} {key}")
        if not self.at.plan[what]:
            return False
        match self.at.plan[what].pop(0):
            case "lost":
                if what == "PUT" and key not in self.at.objects:
                    self._store(key, body)
                self.close_connection = True
            case "drop":
                self._answer(200, headers={"ETag": self.at.tag(body)})
            case "late error":
                self._answer(200, _ERROR.format("InternalError"))
            case "html":
                self._answer(502, "<html>Bad Gateway</html>", headers={"Content-Type": "text/html"})
            case "garbage":
                self._answer(503, "<<<", headers={"Content-Type": "application/xml"})
            case planned:
                status, _, code = planned.partition(" ")
                self._error(int(status), code or "InternalError")
        return True

    def _read(self) -> tuple[bytes, str, dict[str, str]]:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query, keep_blank_values=True).items()}
        return body, unquote(url.path).partition("/")[2].partition("/")[2], query

    def _error(self, status: int, code: str) -> None:
        self._answer(status, _ERROR.format(code), headers={"Content-Type": "application/xml"})

    def _answer(self, status: int, body: str | bytes = b"", *, headers: Mapping[str, str] | None = None) -> None:
        data = body.encode() if isinstance(body, str) else body
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's own name
        """Nothing."""
