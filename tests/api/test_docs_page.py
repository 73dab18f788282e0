"""The reference in a browser: all of it there, without the Internet, and without a script."""

import asyncio
import base64
import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path

import httpx2
import pytest

from penstock.api.app import create_app
from penstock.api.docs_page import html_of
from penstock.jobs.settings import Settings


class Reader(HTMLParser):
    """Notes the names and links of a page, and what it would load."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id":
                self.names.append(value or "")
            elif name == "href" and tag == "a":
                self.links.append(value or "")
            elif name in ("src", "href", "srcset", "data"):
                self.loaded.append(value or "")
        if tag in ("script", "iframe", "object"):
            self.loaded.append(tag)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> httpx2.Response:
    data: Path = tmp_path_factory.mktemp("docs")
    app = create_app(Settings(data=str(data), redis_url="redis://127.0.0.1:1/0"))

    async def ask() -> httpx2.Response:
        transport = httpx2.ASGITransport(app=app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.get("/docs")

    return asyncio.run(ask())


def test_it_is_a_page_that_loads_nothing(page: httpx2.Response) -> None:
    assert page.status_code == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert Reader(page.text).loaded == []


def test_it_lets_its_own_style_through_and_nothing_else(page: httpx2.Response) -> None:
    style = re.findall(r"<style>(.*?)</style>", page.text, re.S)
    assert len(style) == 1
    digest = base64.b64encode(hashlib.sha256(style[0].encode()).digest()).decode()
    policy = page.headers["content-security-policy"].split("; ")
    assert policy[:2] == ["default-src 'none'", f"style-src 'sha256-{digest}'"]
    assert "frame-ancestors 'none'" in policy
    assert page.headers["x-content-type-options"] == "nosniff"
    assert not re.search(r"<[^>]* style=", page.text)  # it would not count


def test_its_links_lead_somewhere(page: httpx2.Response) -> None:
    reader = Reader(page.text)
    assert len(reader.links) > 200
    assert {link.removeprefix("#") for link in reader.links} <= set(reader.names)
    assert len(reader.names) == len(set(reader.names))


def test_what_is_no_markup_stays_text() -> None:
    shown = html_of("# A\n\n| a |\n| --- |\n| <script>x</script> `{{ row.a }}` |\n")
    assert '<h1 id="a">' in shown
    assert "&lt;script&gt;" in shown
    assert "<code>{{ row.a }}</code>" in shown
