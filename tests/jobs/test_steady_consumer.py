"""A broken connection that cannot even be closed does not end the worker."""

import pytest
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


def test_workers_have_it(settings: Settings) -> None:
    app = create_app(settings, assignment=Assignment(MODEL, "w1"))
    add_lanes(app, MODEL)
    assert _celery_worker(app, MODEL, "w1").consumer_cls is SteadyConsumer
