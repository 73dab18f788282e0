"""Webhooks: signed so that the official client believes them, sent until taken, never inwards."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import openai
import pytest

from penstock.api.routes import webhook_endpoints
from penstock.jobs.public_address import RefusedAddress, check_url, public_address
from penstock.jobs.webhook_delivery import Deliveries, Delivery, DeliveryStatus
from penstock.jobs.webhook_endpoints import WebhookEndpoints
from penstock.jobs.webhook_outbox import WebhookOutbox
from penstock.jobs.webhook_sender import WebhookSender
from tests.waiting import wait_for

from .conftest import MODEL, quick_ticks

Received = list[tuple[dict[str, str], str]]


@contextmanager
def receiver(answer: Callable[[int], int] = lambda _: 200) -> Iterator[tuple[str, Received]]:
    """A server that keeps what it is told; the n-th time it answers `answer(n)`."""
    received: Received = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"])).decode()
            received.append((dict(self.headers.items()), body))
            self.send_response(answer(len(received)))
            self.send_header("location", "http://127.0.0.1:1/elsewhere")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/told?by=us", received
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_the_end_of_a_batch_is_told_and_believed(
    client: openai.OpenAI, http: httpx2.Client
) -> None:
    with receiver() as (url, received):
        endpoint = client.webhooks.create(
            name="mine", url=url, event_types=["batch.completed", "batch.failed"]
        )
        other = client.webhooks.create(name="other", url=url, event_types=["batch.expired"])
        body = {"model": MODEL, "messages": [{"role": "user", "content": "x"}]}
        line = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": body}
        file = client.files.create(file=("a.jsonl", json.dumps(line).encode()), purpose="batch")
        batch = client.batches.create(
            input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
        )

        def told_of_it() -> Received:
            return [each for each in received if batch.id in each[1]]

        wait_for(told_of_it)
        assert client.batches.retrieve(batch.id).status == "completed"  # told no sooner than true
        [(headers, told)] = told_of_it()
        event = client.webhooks.unwrap(told, headers, secret=endpoint.signing_secret)
        assert event.type == "batch.completed"
        assert event.data.id == batch.id
        with pytest.raises(openai.InvalidWebhookSignatureError):
            client.webhooks.unwrap(told, headers, secret=other.signing_secret)
        path = f"/v1/webhook_endpoints/{endpoint.id}/deliveries"
        delivery = wait_for(lambda: http.get(path).json()["data"])[0]
        assert (delivery["event_id"], "body" in delivery) == (event.id, False)
        client.webhooks.delete(endpoint.id)
        client.webhooks.delete(other.id)


def test_endpoints_are_kept_as_the_client_expects(
    client: openai.OpenAI, http: httpx2.Client
) -> None:
    with receiver() as (url, _):
        made = client.webhooks.create(name="a", url=url, event_types=["batch.completed"])
        assert made.signing_secret.startswith("whsec_")
        found = client.webhooks.retrieve(made.id)
        assert made.signing_secret not in found.to_json()
        assert found.signing_secret_hint is not None
        changed = client.webhooks.update(made.id, name="b")
        assert (changed.name, changed.url) == ("b", url)
        rotated = client.webhooks.rotate_secret(made.id)
        assert rotated.signing_secret != made.signing_secret
        assert [each.id for each in client.webhooks.list().data][:1] == [made.id]
        path = f"/v1/webhook_endpoints/{made.id}/deliveries"
        assert http.get(path).json()["data"] == []
        assert client.webhooks.delete(made.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.webhooks.retrieve(made.id)


@pytest.fixture
def endpoints(tmp_path: Path) -> WebhookEndpoints:
    return WebhookEndpoints(tmp_path / "endpoints")


@contextmanager
def sending(
    endpoints: WebhookEndpoints, directory: Path, **options: Any
) -> Iterator[WebhookOutbox]:
    with quick_ticks():
        outbox = WebhookOutbox(directory, endpoints, ("127.0.0.1",), **options)
    outbox.start()
    try:
        yield outbox
    finally:
        outbox.stop()


def test_what_is_refused_is_sent_again_until_it_is_taken(
    endpoints: WebhookEndpoints, tmp_path: Path
) -> None:
    with receiver(lambda n: 200 if n == 3 else 503) as (url, received):
        made = endpoints.create(name="a", url=url, event_types=["batch.failed"])
        with sending(endpoints, tmp_path / "out", retry_after_s=(0, 0, 0)) as outbox:
            for _ in range(2):  # announced twice, told once
                outbox.announce("evt_1", "batch.failed", {"id": "batch_1"}, "default")
            outbox.announce("evt_2", "batch.expired", {"id": "batch_1"}, "default")
            outbox.announce("evt_3", "batch.failed", {"id": "batch_1"}, "somebody else")
            wait_for(lambda: outbox.deliveries(made.id)[0].status == "delivered")
    assert len(received) == 3
    assert {headers["webhook-id"] for headers, _ in received} == {"evt_1"}


def test_what_nobody_takes_is_given_up(endpoints: WebhookEndpoints, tmp_path: Path) -> None:
    with receiver(lambda _: 302) as (url, received):
        made = endpoints.create(name="a", url=url, event_types=["batch.failed"])
        with sending(endpoints, tmp_path / "out", retry_after_s=(0, 0)) as outbox:
            outbox.announce("evt_1", "batch.failed", {"id": "batch_1"}, "default")
            wait_for(lambda: outbox.deliveries(made.id)[0].status == "failed")
            [delivery] = outbox.deliveries(made.id)
    assert (delivery.num_tries, delivery.status_code) == (3, 302)  # and went nowhere else
    assert delivery.error == "it answered 302"
    assert len(received) == 3


def test_an_endpoint_that_is_down_is_tried_later(
    endpoints: WebhookEndpoints, tmp_path: Path
) -> None:
    made = endpoints.create(name="a", url="http://127.0.0.1:1/", event_types=["batch.failed"])
    with sending(endpoints, tmp_path / "out", retry_after_s=(3600,)) as outbox:
        outbox.announce("evt_1", "batch.failed", {"id": "batch_1"}, "default")
        wait_for(lambda: outbox.deliveries(made.id)[0].num_tries)
        [delivery] = outbox.deliveries(made.id)
    assert delivery.status == "pending"
    assert delivery.next_at > time.time() + 3500
    assert "ConnectionRefusedError" in (delivery.error or "")


def test_for_a_day_both_secrets_may_be_believed(
    client: openai.OpenAI, endpoints: WebhookEndpoints, tmp_path: Path
) -> None:
    with receiver() as (url, received):
        made = client.webhooks.create(name="a", url=url, event_types=["batch.failed"])
        rotated = client.webhooks.rotate_secret(made.id, keep_old_secret_active_for_24_hours=True)
        body = json.dumps({"custom_id": "a"}).encode()
        file = client.files.create(file=("a.jsonl", body), purpose="batch")
        client.batches.create(
            input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
        )
        wait_for(lambda: received)
        headers, told = received[0]
        for secret in (made.signing_secret, rotated.signing_secret):
            assert client.webhooks.unwrap(told, headers, secret=secret).type == "batch.failed"
        client.webhooks.delete(made.id)


def test_what_ends_while_it_is_looked_for_is_told_once(tmp_path: Path) -> None:
    facts: dict[str, Any] = {"event_id": "evt_1", "type": "t", "body": "{}"}
    deliveries = Deliveries(tmp_path)
    pending = Delivery(id="evt_1_wh_1", endpoint_id="wh_1", created_at=1, next_at=1, **facts)
    deliveries.add(pending)
    [path] = tmp_path.rglob("*.json")
    seen = path.read_bytes()
    deliveries.put(msgspec.structs.replace(pending, status=DeliveryStatus.DELIVERED))
    path.write_bytes(seen)  # as between the two steps of its end
    assert [each.status for each in deliveries.to("wh_1")] == ["delivered"]


def test_of_several_processes_one_sends(endpoints: WebhookEndpoints, tmp_path: Path) -> None:
    with receiver() as (url, received), ExitStack() as stack:
        made = endpoints.create(name="a", url=url, event_types=["batch.failed"])
        outboxes = [stack.enter_context(sending(endpoints, tmp_path / "out")) for _ in range(3)]
        for number in range(10):
            outboxes[1].announce(f"evt_{number}", "batch.failed", {"id": "b"}, "default")
        wait_for(lambda: {each.status for each in outboxes[0].deliveries(made.id)} == {"delivered"})
        assert len(received) == 10


@contextmanager
def dripper() -> Iterator[tuple[str, list[threading.Thread]]]:
    """A server whose answers never end; a thread for each of them."""
    is_over = threading.Event()

    def serve(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 200 OK\r\n")
            while not is_over.wait(0.05):
                connection.sendall(b"X")

    def accept() -> None:
        with suppress(OSError):
            while True:
                thread = threading.Thread(target=serve, args=(listener.accept()[0],))
                thread.start()
                connected.append(thread)

    connected: list[threading.Thread] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        door = threading.Thread(target=accept)
        door.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/", connected
        is_over.set()
        listener.shutdown(socket.SHUT_RDWR)
        for thread in (door, *connected):
            thread.join()


def test_slow_receivers_hold_up_no_other_tenant_and_no_stop(
    endpoints: WebhookEndpoints, tmp_path: Path
) -> None:
    kinds = ["batch.failed"]
    with dripper() as (slow, connected), receiver() as (url, received):
        for number in range(20):
            endpoints.create(name=f"{number}", url=slow, event_types=kinds, tenant="slow")
        endpoints.create(name="good", url=url, event_types=kinds)
        with sending(endpoints, tmp_path / "out", timeout_s=3600) as outbox:
            outbox.announce("evt_1", "batch.failed", {"id": "b"}, "slow")
            wait_for(lambda: len(connected) == 4)
            outbox.announce("evt_2", "batch.failed", {"id": "b"}, "default")
            wait_for(lambda: received)


def test_an_answer_that_never_ends_is_cut_off(endpoints: WebhookEndpoints, tmp_path: Path) -> None:
    with dripper() as (slow, _):
        made = endpoints.create(name="a", url=slow, event_types=["batch.failed"])
        with sending(endpoints, tmp_path / "out", timeout_s=0.5, retry_after_s=(3600,)) as outbox:
            outbox.announce("evt_1", "batch.failed", {"id": "b"}, "default")
            wait_for(lambda: outbox.deliveries(made.id)[0].num_tries)


def test_what_has_rotted_is_passed_over(endpoints: WebhookEndpoints, tmp_path: Path) -> None:
    with receiver() as (url, received):
        rotten = endpoints.create(name="a", url=url, event_types=["batch.failed"])
        endpoints.create(name="b", url=url, event_types=["batch.failed"])
        (tmp_path / "endpoints" / f"{rotten.id}.json").write_bytes(b"\x00")
        pending = tmp_path / "out" / "pending"
        pending.mkdir(parents=True)
        (pending / "evt_0_wh_0.json").write_bytes(b'{"id":"\xff"}')
        with sending(endpoints, tmp_path / "out") as outbox:
            outbox.announce("evt_1", "batch.failed", {"id": "b"}, "default")
            wait_for(lambda: received)


def test_a_fault_that_nobody_foresaw_counts_as_a_try(
    endpoints: WebhookEndpoints, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> int:
        raise RuntimeError("what is this?")

    monkeypatch.setattr(WebhookSender, "send", fail)
    made = endpoints.create(name="a", url="http://127.0.0.1:1/", event_types=["batch.failed"])
    with sending(endpoints, tmp_path / "out", retry_after_s=(0,)) as outbox:
        outbox.announce("evt_1", "batch.failed", {"id": "b"}, "default")
        wait_for(lambda: outbox.deliveries(made.id)[0].status == "failed")
        [delivery] = outbox.deliveries(made.id)
    assert delivery.error == "RuntimeError: what is this?"


INWARDS = [
    "http://example.com/",
    "https://127.0.0.1/",
    "https://[::1]/",
    "https://[::ffff:127.0.0.1]/",
    "https://[::ffff:a00:1]/",
    "https://[64:ff9b::7f00:1]/",
    "https://[2002:7f00:1::]/",
    "https://[fe80::1%25eth0]/",
    "https://2130706433/",
    "https://0x7f.1/",
    "https://0177.0.0.1/",
    "https://10.0.0.1/",
    "https://169.254.169.254/latest/meta-data",
    "https://100.64.0.1/",
    "https://224.0.0.1/",
    "https://0.0.0.0/",
    "https://localhost/",
    "https://redis/",
    "https://example.com:6379/",
    "https://user@example.com/",
    "https://example.com\\@127.0.0.1/",
    "https://example.com/#x",
    "https://example.com/\r\nx: y",
    "https://example.com/\u00e9",
    "https:///nowhere",
    "https://example.com:99999/",
    "gopher://127.0.0.1:6379/_SET",
    "file:///etc/passwd",
    "ftp://10.0.0.1/",
    "//example.com/",
    "https://a..example.com/",
    "https://" + "a" * 70 + ".example.com/",
    "https://-a.example.com/",
    "https://[64:ff9b:1::7f00:1]/",
    "https://[fec0::1]/",
    "https://[::127.0.0.1]/",
    "https://[::ffff:0:127.0.0.1]/",
    "",
    "https://example.com/" + "a" * 3000,
]


@pytest.mark.parametrize("url", INWARDS)
def test_no_url_leads_inwards(http: httpx2.Client, url: str) -> None:
    with pytest.raises(RefusedAddress):
        check_url(url)
    body = {"name": "a", "url": url, "event_types": ["batch.completed"]}
    if "127.0.0.1" in url and url.startswith("http"):
        return  # the tests' own server lets these pass
    answer = http.post("/v1/webhook_endpoints", json=body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "url")


def test_no_endpoint_is_turned_inwards(http: httpx2.Client) -> None:
    url = "https://example.com/"
    body = {"name": "a", "url": url, "event_types": ["batch.completed"]}
    path = f"/v1/webhook_endpoints/{http.post('/v1/webhook_endpoints', json=body).json()['id']}"
    answer = http.post(path, json={"url": "https://169.254.169.254/latest"})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "url")
    assert http.get(path).json()["url"] == url
    http.delete(path)


def test_a_tenant_has_so_many_endpoints(
    http: httpx2.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook_endpoints, "MAX_ENDPOINTS", 0)
    body = {"name": "a", "url": "https://example.com/", "event_types": ["batch.completed"]}
    answer = http.post("/v1/webhook_endpoints", json=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_value")
    assert "at most 0 webhook endpoints" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    "addresses",
    [["127.0.0.1"], ["93.184.215.14", "10.0.0.1"], ["::1"], ["::ffff:192.168.0.1"], []],
)
def test_no_name_leads_inwards(addresses: list[str]) -> None:
    with pytest.raises(RefusedAddress):
        public_address("https://rebind.example/", resolve=lambda *_: addresses)


def test_what_is_checked_is_what_is_connected_to() -> None:
    found = public_address("https://example.com/a?b=c", resolve=lambda *_: ["93.184.215.14"])
    assert (found.address, found.port, found.host) == ("93.184.215.14", 443, "example.com")
    assert found.target == "/a?b=c"
    inside = public_address("http://intern:8080/", ["intern:8080"], resolve=lambda *_: ["10.1.2.3"])
    assert (inside.address, inside.port) == ("10.1.2.3", 8080)
    with pytest.raises(RefusedAddress):
        check_url("http://intern:9090/", ["intern:8080"])


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"event_types": []}, "event_types"),
        ({"event_types": ["moon.full"]}, "event_types.0"),
        ({"name": ""}, "name"),
        ({"secret": "mine"}, "secret"),
    ],
)
def test_odd_endpoints_are_refused(http: httpx2.Client, change: dict[str, Any], param: str) -> None:
    body = {"name": "a", "url": "https://example.com/", "event_types": ["batch.completed"]}
    answer = http.post("/v1/webhook_endpoints", json={**body, **change})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
