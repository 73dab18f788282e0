"""Flower as a reader sees it: a real one, beside a real worker, in a real browser."""

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx2
import pytest
from flower.app import rewrite_handler
from playwright.sync_api import expect
from tornado.httpserver import HTTPServer
from tornado.testing import bind_unused_port
from tornado.web import Application

from penstock.api.flower_pages import served_pages
from tests.browser import open_browser
from tests.ports import reserved_port
from tests.waiting import PATIENCE_S, wait_for

from .conftest import Stack
from .page_reader import reading
from .plain_jobs import rows, submit, wait

PAGES = "http://pages.example"


@pytest.fixture(scope="module")
def flower(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    log = tmp_path_factory.mktemp("flower") / "log"
    settings = replace(stack.settings, pages_url=PAGES)
    command = [sys.executable, "-P", "-m", "penstock.api.cli", "flower", "--port"]
    with reserved_port() as port, log.open("wb") as file:
        process = subprocess.Popen(
            [*command, str(port)],
            env={**os.environ, **settings.to_environ()},
            stdout=file,
            stderr=subprocess.STDOUT,
        )
        url = f"http://127.0.0.1:{port}"
        try:
            wait_for(lambda: _answers(url, process, log), "Flower")
            yield url
        finally:
            process.terminate()
            process.wait(PATIENCE_S)


def _answers(url: str, process: "subprocess.Popen[bytes]", log: Path) -> bool:
    assert process.poll() is None, log.read_text()
    try:
        return httpx2.get(f"{url}/healthcheck").status_code == 200
    except httpx2.TransportError:
        return False


def test_a_shard_is_a_line_that_moves_and_leads_to_its_job(
    flower: str, http: httpx2.Client, tmp_path: Path
) -> None:
    endless = [*rows(130), {"key": "k", "text": "[[long]]"}]
    with open_browser() as browser, reading(browser, flower) as reader:
        wait_for(lambda: _knows_workers(flower), "a worker's word")
        job = submit(http, input={"rows": endless})
        page = reader.open(f"/tasks?name=penstock.generate%20kwargs:{job['id']}")
        line = page.locator("#tasks-table tbody tr", has_text="shard 3/3 rows 128..130")
        done = page.locator("#tasks-table tbody tr", has_text="shard 1/3 rows 0..63")

        def running() -> bool:
            page.reload(wait_until="networkidle")  # Flower's table does not move by itself
            if not (line.count() and done.count()):
                return False
            is_done = "64 rows · 512 tokens" in done.first.inner_text()
            return is_done and "2/3 rows" in line.first.inner_text()

        wait_for(running, "rows and speed of the shard")
        expect(line).to_contain_text(re.compile(r"2/3 rows · \d+ tok/s"))
        link = line.get_by_role("link", name=job["id"])
        expect(link).to_have_attribute("href", f"{PAGES}/ui/jobs/{job['id']}")
        expect(done.get_by_text("64 rows · 512 tokens", exact=True)).to_be_visible()
        page.screenshot(path=tmp_path / "flower-tasks.png", full_page=True)
        page.locator("#tasks-table tbody a[href^='/task/']").first.click()
        expect(page.get_by_role("link", name=job["id"]).first).to_be_visible()
        page.screenshot(path=tmp_path / "flower-task.png", full_page=True)
    http.post(f"/v1/jobs/{job['id']}/cancel")
    wait(http, job["id"])


def _knows_workers(flower: str) -> bool:
    answer = httpx2.get(f"{flower}/workers?json=1", follow_redirects=True, timeout=PATIENCE_S)
    return "api-tests" in answer.text


def test_the_links_script_is_there_behind_a_prefix() -> None:
    async def fetched() -> httpx2.Response:
        handlers = [rewrite_handler(each, "queue") for each in served_pages([])]
        server = HTTPServer(Application(handlers))
        probe, port = bind_unused_port()
        server.add_socket(probe)
        try:
            async with httpx2.AsyncClient(timeout=PATIENCE_S) as http:
                return await http.get(f"http://127.0.0.1:{port}/queue/penstock/job_links.js")
        finally:
            server.stop()

    answer = asyncio.run(fetched())
    assert answer.status_code == 200, answer.text
    assert "penstock-pages" in answer.text
