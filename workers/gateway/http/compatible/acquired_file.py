"""``/action-executions/{id}/acquired-file``: download what was acquired."""

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from workers.gateway.acquired import download
from workers.gateway.http.acquired import FILE, of_download
from workers.gateway.http.compatible.answers import MISSING
from workers.gateway.http.compatible.executions import PATH, Id
from workers.gateway.http.services import Services, caller, trace_of


def add(app: FastAPI, services: Services) -> None:
    """Add the route."""

    @app.get(
        f"{PATH}/{{execution_id}}/acquired-file",
        tags=["compatible"],
        summary="Download what was acquired: a file, logs or a snapshot",
        response_class=Response,
        responses={**MISSING, **FILE},
    )
    async def acquired_file(request: Request, execution_id: Id) -> Response:
        """Its content, which may be malware or a secret; who downloads it is in the audit log. 404 where the execution
        acquired nothing."""
        person, parent = caller(request), trace_of(request)
        return of_download(
            await services.writing(lambda: download(services.intake, execution_id, person=person, parent=parent))
        )
