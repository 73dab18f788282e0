"""The pages that people open in a browser: files of `dashboards/pages`, and their addresses.

A page's file says what goes into the head, then an empty line, then what it shows; `_layout.html`
is around it, and `${name}` stands for `_name.html`. Knows no job. A page holds no data: its script
asks the API for that, with the reader's key. So pages are served to everybody, and let nothing run
but the scripts beside them.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from string import Template

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
    def of(cls, content: bytes, suffix: str) -> "_File":
        digest = hashlib.blake2b(content, digest_size=12).hexdigest()
        return cls(content, _TYPES[suffix], f'"{digest}"')


def page_routes(folder: Path = FOLDER) -> list[BaseRoute]:
    """Read the pages, and return the routes at which they are."""
    pages = {name: _File.of(text.encode(), ".html") for name, text in composed(folder).items()}
    assets = {
        path.name: _File.of(path.read_bytes(), path.suffix)
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


def composed(folder: Path = FOLDER) -> dict[str, str]:
    """Put every page together from its own file and those it shares with others."""
    files = sorted(folder.glob("*.html"))
    texts = {path.stem: path.read_text(encoding="utf-8").strip() for path in files}
    shared = {name[1:]: text for name, text in texts.items() if name.startswith("_")}
    pages = {}
    for name, text in texts.items():
        if not name.startswith("_"):
            head, body = Template(text).substitute(shared).split("\n\n", 1)
            pages[name] = Template(shared["layout"]).substitute(head=head, body=body)
    return pages


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
