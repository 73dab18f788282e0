"""The pages that people open in a browser: files of `dashboards/pages`, and their addresses.

Knows no job. A page holds no data: its script asks the API for that, with the reader's key. So
pages are served to everybody, and let nothing run but the scripts beside them.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

FOLDER = Path(__file__).parent / "dashboards" / "pages"
HEADERS = {
    "content-security-policy": (
        "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "cache-control": "no-cache",  # that is: ask whether it is still the same
    "referrer-policy": "same-origin",
    "x-content-type-options": "nosniff",
}
_TYPES = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}


@dataclass(frozen=True, slots=True)
class _File:
    """A file as it is sent; its tag changes with its bytes."""

    content: bytes
    media_type: str
    tag: str

    @classmethod
    def read(cls, path: Path) -> "_File":
        content = path.read_bytes()
        digest = hashlib.blake2b(content, digest_size=12).hexdigest()
        return cls(content, _TYPES[path.suffix], f'"{digest}"')


def page_routes(folder: Path = FOLDER) -> list[BaseRoute]:
    """Read the pages, and return the routes at which they are."""
    pages = {path.stem: _File.read(path) for path in folder.glob("*.html")}
    assets = {
        path.name: _File.read(path)
        for path in sorted(folder.iterdir())
        if path.suffix in _TYPES and path.suffix != ".html"
    }

    async def asset(request: Request) -> Response:
        file = assets.get(request.path_params["name"])
        return Response(status_code=404, headers=HEADERS) if file is None else _send(request, file)

    return [
        Route("/", _to_overview),
        Route("/ui", _page(pages["overview"])),
        Route("/ui/", _to_overview),
        Route("/ui/jobs/{job_id}", _page(pages["job"])),
        Route("/ui/runs/{run_id}", _page(pages["run"])),
        Route("/ui/assets/{name}", asset),
        Route("/ui/{rest:path}", _page(pages["missing"], status=404)),
    ]


def is_page(path: str) -> bool:
    """Tell whether a page, or a part of one, is at this address."""
    return path in ("/", "/ui") or path.startswith("/ui/")


def _page(file: _File, status: int = 200) -> Callable[[Request], Response]:
    def page(request: Request) -> Response:
        return _send(request, file, status)

    return page


def _to_overview(_: Request) -> Response:
    return RedirectResponse("/ui", headers=HEADERS)


def _send(request: Request, file: _File, status: int = 200) -> Response:
    headers = {**HEADERS, "etag": file.tag}
    if request.headers.get("if-none-match") == file.tag:
        return Response(status_code=304, headers=headers)
    return Response(file.content, status, headers, media_type=file.media_type)
