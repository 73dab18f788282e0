"""GET /docs: the API reference as a page for browsers, which loads nothing from anywhere.

So it is there without the Internet, and runs no script. Knows Markdown and HTML; what the page says
stands in the OpenAPI document.
"""

import base64
import hashlib
from functools import cache
from itertools import pairwise

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from .web_pages import HEADERS

_STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 64rem; padding: 0 1rem; }
h2 { border-top: 1px solid #8886; margin-top: 3rem; padding-top: 1rem; }
h3 { margin-top: 2.5rem; overflow-wrap: anywhere; }
a { color: light-dark(#0550ae, #79b8ff); }
code, pre { background: #8882; border-radius: 4px; font: 0.875em ui-monospace, monospace; }
code { overflow-wrap: anywhere; padding: 0.1em 0.3em; }
pre { overflow-x: auto; padding: 0.75rem 1rem; }
pre code { background: none; padding: 0; }
table { border-collapse: collapse; width: 100%; }
th, td { border-bottom: 1px solid #8884; padding: 0.35rem 0.75rem 0.35rem 0; text-align: left; }
td { vertical-align: top; }
td:first-child code { overflow-wrap: normal; }
@media (max-width: 40rem) {
  thead { display: none; }
  tr, td { display: block; padding: 0.25rem 0; }
  td { border: 0; }
  tr { border-bottom: 1px solid #8884; }
}
"""
_PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Penstock API reference</title>
<style>{style}</style>
</head>
<body>
{body}
</body>
</html>
"""


def docs_route(app: FastAPI) -> Route:
    """Return the route of the page; the page is written when somebody first asks for it."""

    @cache
    def page() -> str:
        from .reference_page import reference  # with what only this page needs, as below

        return _PAGE.format(style=_STYLE, body=html_of(reference(app.openapi())))

    def docs(_: Request) -> Response:  # in a thread: to write it takes a while
        return Response(page(), headers=_headers(), media_type="text/html")

    return Route("/docs", docs)


def html_of(markdown: str) -> str:
    """Write Markdown as HTML, with the names of headings that links lead to."""
    from markdown_it import MarkdownIt

    from .reference_tables import anchor

    writer = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = writer.parse(markdown)
    for token, text in pairwise(tokens):
        if token.type == "heading_open":
            token.attrSet("id", anchor(text.content))
    return writer.renderer.render(tokens, writer.options, {})


def _headers() -> dict[str, str]:
    """Let nothing through but the page's own style."""
    digest = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )
    return {**HEADERS, "content-security-policy": policy}
