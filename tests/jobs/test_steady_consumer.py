"""A broken connection that cannot even be closed does not end the worker."""

from types import SimpleNamespace

import pytest
from celery.apps.worker import Worker as CeleryWorker
from celery.worker.consumer import Consumer

from penstock.jobs.app import Assignment, create_app
from penstock.jobs.express import add_lanes
from penstock.jobs.settings import Settings
from penstock.jobs.steady_consumer import SteadyConsumer
from penstock.jobs.worker import _celery_worker

MODEL = "fake:"


def test_what_kombu_trips_over_is_borne(monkeypatch: pytest.MonkeyPatch) -> None:
    def trip(_: Consumer, error: Exception) -> None:
        raise AttributeError("'NoneType' object has no attribute 'hostname'")

    monkeypatch.setattr(Consumer, "on_connection_error_after_connected", trip)
    consumer = object.__new__(SteadyConsumer)
    consumer.on_connection_error_after_connected(ConnectionError("closed by server"))


def test_an_acknowledgement_over_a_closed_connection_is_borne(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def trip(error: Exception) -> None:
        raise error

    consumer = object.__new__(SteadyConsumer)
    consumer.hub = SimpleNamespace(call_soon=lambda step: step())
    done: list[str] = []
    consumer.call_soon_ack(done.append, "acknowledged")
    assert done == ["acknowledged"]
    consumer.call_soon_ack(trip, AttributeError("'NoneType' object has no attribute 'hostname'"))
    assert "closed by now" in caplog.text
    with pytest.raises(ValueError, match="a bug"):
        consumer.call_soon_ack(trip, ValueError("a bug"))


def test_workers_have_it(settings: Settings) -> None:
    app = create_app(settings, assignment=Assignment(MODEL, "w1"))
    add_lanes(app, MODEL)
    assert _celery_worker(app, MODEL, "w1").consumer_cls is SteadyConsumer


def test_a_worker_that_hangs_while_it_stops_is_ended(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Celery stops by itself after an error; that may hang where no signal has set a limit."""
    started: list[float] = []

    def start(limit_s: float, *_: object) -> SimpleNamespace:
        return SimpleNamespace(start=lambda: started.append(limit_s))

    app = create_app(settings, assignment=Assignment(MODEL, "w1"))
    add_lanes(app, MODEL)
    program = _celery_worker(app, MODEL, "w1")
    monkeypatch.setattr("penstock.jobs.worker.threading.Timer", start)
    monkeypatch.setattr(CeleryWorker, "stop", lambda *_: None)
    program.stop(exitcode=1)
    [limit_s] = started
    assert limit_s > settings.grace_s
