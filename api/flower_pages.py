"""Flower's pages as we serve them: to look and not to touch, with links to the pages of jobs.

Knows Flower's addresses and the end of its base template, no server. Flower can stop workers and
send tasks; a job is steered through `/v1/jobs`, and whoever reads a dashboard should not be able
to do more by it.
"""

from pathlib import Path
from typing import Any

from tornado.escape import xhtml_escape
from tornado.template import Loader, Template
from tornado.web import StaticFileHandler, url

OUR_FILES = Path(__file__).parent / "dashboards" / "flower"
_LOOKING = frozenset(
    {
        "/api/workers",
        "/api/tasks",
        "/api/task/types",
        "/api/task/info/(.*)",
        "/api/queues/length",
    }
)
_BASE, _END = "base.html", "</body>"


class LinkedTemplates(Loader):
    """Flower's own templates; every page of them loads our script, which makes the links."""

    def __init__(self, directory: str, pages_url: str) -> None:
        super().__init__(directory)
        self._directory = Path(directory)
        self._pages_url = pages_url.rstrip("/")

    def _create_template(self, name: str) -> Template:
        if name != _BASE:
            return super()._create_template(name)
        source = (self._directory / name).read_text(encoding="utf-8")
        ours = (
            f'<meta name="penstock-pages" content="{xhtml_escape(self._pages_url)}">'
            '<script type="module" src="{{ url_prefix or \'\' }}/penstock/job_links.js"></script>'
        )
        return Template(source.replace(_END, ours + _END), name=name, loader=self)


def served_pages(handlers: list[Any]) -> list[Any]:
    """Return what is served of Flower's handlers, and before them that of our own files."""
    # Behind a prefix, Flower would lose the folder if it was in a tuple.
    files = url("/penstock/(job_links[.]js)", StaticFileHandler, {"path": str(OUR_FILES)})
    return [files, *looking_only(handlers)]


def looking_only(handlers: list[Any]) -> list[Any]:
    """Keep the pages, and of the calls those that change nothing; new ones stay out."""
    return [each for each in handlers if _is_looking(_address(each))]


def _is_looking(address: str) -> bool:
    return not address.startswith("/api/") or address in _LOOKING


def _address(handler: Any) -> str:
    """Read the address of a handler, which is a tuple or Tornado's own `url`."""
    return handler[0] if isinstance(handler, tuple) else handler.regex.pattern
