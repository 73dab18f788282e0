import base64
import json
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest
import redis
from celery.exceptions import QueueNotFound

from penstock.jobs.app import broker_url, create_app
from penstock.jobs.frames import InteractiveRequest
from penstock.jobs.messages import send_request, send_shards
from penstock.jobs.model import ColumnType, JobSpec, TaskSpec
from penstock.jobs.redis_server import RedisUnavailable
from penstock.jobs.settings import Settings
from penstock.jobs.tasks import GENERATE

SPEC = JobSpec(
    job_id="job_1",
    task=TaskSpec(model="org/model", prompt="{{ row.text }}"),
    num_rows=100,
    num_shards=2,
    shard_rows=64,
    columns={"text": ColumnType.STRING},
    out="/nowhere",
    created_at_ms=0,
)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://127.0.0.1:6379/3", "redis://127.0.0.1:6379/3"),
        ("rediss://:secret@host:6380/0", "rediss://:secret@host:6380/0"),
        ("unix:///run/redis.sock?db=0", "redis+socket:///run/redis.sock?virtual_host=0"),
        ("unix:///run/redis.sock?db=7", "redis+socket:///run/redis.sock?virtual_host=7"),
        ("unix://u:pw@/run/redis.sock", "redis+socket://u:pw@/run/redis.sock?virtual_host=0"),
    ],
)
def test_broker_url(url: str, expected: str) -> None:
    assert broker_url(Settings(redis_url=url)) == expected


def test_without_redis_it_says_what_to_do() -> None:
    with pytest.raises(RedisUnavailable, match="PENSTOCK_REDIS_URL"):
        create_app(Settings())


def message(client: Any, queue: str) -> tuple[dict[str, Any], Any]:
    envelope = json.loads(client.rpop(queue))

    return envelope["headers"], json.loads(base64.b64decode(envelope["body"]))


def test_a_shard_travels_by_reference(settings: Settings, redis_client: redis.Redis) -> None:
    app = create_app(settings)
    send_shards(app, SPEC, [0, 1])
    queue = app.keys.queue("bulk", "org/model")
    assert redis_client.llen(queue) == 2
    headers, (args, kwargs, _) = message(redis_client, queue)
    assert (headers["task"], args) == (GENERATE, [])
    assert kwargs == {"job_id": "job_1", "index": 0, "rows": 64}
    assert headers["kwargsrepr"] == "job_1 shard 1/2 rows 0..63"
    headers, (_, kwargs, _) = message(redis_client, queue)
    assert kwargs["rows"] == 36 and headers["kwargsrepr"] == "job_1 shard 2/2 rows 64..99"
    app.close()


def test_flower_never_sees_a_prompt(settings: Settings, redis_client: redis.Redis) -> None:
    app = create_app(settings)
    send_request(app, InteractiveRequest("chat_1", "org/model", prompt="a secret"), "api-1")
    headers, (_, kwargs, _) = message(redis_client, app.keys.queue("interactive", "org/model"))
    assert "secret" not in json.dumps(headers)
    assert (headers["id"], kwargs["request"]["prompt"]) == ("chat_1", "a secret")
    app.close()


def test_each_queue_has_its_own_exchange_and_key(settings: Settings) -> None:
    app = create_app(settings)
    lanes = [app.lane("bulk", "a"), app.lane("bulk", "b"), app.control_lane]
    assert len({lane.exchange for lane in lanes}) == 3
    assert [lane.routing_key for lane in lanes] == [lane.name for lane in lanes]


def test_an_unknown_queue_is_an_error(settings: Settings) -> None:
    app = create_app(settings)
    with pytest.raises(QueueNotFound):
        app.send_task(GENERATE, queue="nowhere")
    app.close()


def test_namespaces_share_no_key(settings: Settings, redis_client: redis.Redis) -> None:
    names = []
    for namespace in ("one", "two"):
        app = create_app(replace(settings, namespace=namespace))
        send_shards(app, SPEC, [0])
        conf = app.conf
        names.append({conf.control_exchange, conf.event_exchange, *_unacked(conf)})
        app.close()
    assert not names[0] & names[1]
    assert redis_client.llen("one.bulk.org/model") == redis_client.llen("two.bulk.org/model") == 1


def _unacked(conf: Any) -> list[str]:
    options = conf.broker_transport_options
    return [options[name] for name in options if name.startswith("unacked_") and "key" in name]


def test_an_engine_task_refuses_a_worker_without_an_engine(settings: Settings) -> None:
    app = create_app(settings)
    with pytest.raises(RuntimeError, match="penstock worker"):
        app.tasks[GENERATE].apply(kwargs={"job_id": "job_1", "index": 0}, throw=True)


def test_importing_the_app_for_flower_does_no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    from penstock.jobs import worker_app

    monkeypatch.setenv("PENSTOCK_REDIS_URL", "redis://127.0.0.1:1/0")
    assert "app" not in vars(worker_app)
    assert worker_app.app.conf.broker_url == "redis://127.0.0.1:1/0"
    monkeypatch.delitem(vars(worker_app), "app")
    with pytest.raises(AttributeError):
        _ = worker_app.nothing


def test_a_worker_and_an_api_process_never_load_torch() -> None:
    code = (
        "import sys, penstock.jobs.worker, penstock.jobs.interactive, penstock.jobs.engine_child\n"
        "sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
