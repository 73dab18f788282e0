"""What processes of different versions say to each other, held to what the first version wrote.

`golden/` holds messages as they were once written. A change turns this red when a newer process
would not understand an older one, or when an older one would miss what it looks for. Fields with a
default may be added; if they change what is done, `REQUEST_VERSION` or `spec_version` goes up.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from penstock.engine.outputs import RequestError
from penstock.jobs import frames, messages
from penstock.jobs.app import create_app
from penstock.jobs.frames import (
    REQUEST_VERSION,
    VERSION,
    Configuration,
    Delta,
    InteractiveRequest,
    ToWorker,
    Unusable,
)
from penstock.jobs.journal import Journal, finished_rows
from penstock.jobs.landing import LandedRow
from penstock.jobs.model import ColumnType, JobSpec, RowStatus, ShardRef, TaskSpec
from penstock.jobs.part_counts import PartCounts
from penstock.jobs.replies import Reply
from penstock.jobs.sealed_input import SealedRow
from penstock.jobs.settings import Settings
from penstock.jobs.tool_use import ToolCall, ToolUse
from penstock.jobs.workers import WorkerInfo

GOLDEN = Path(__file__).parent / "golden"

TOOLS = ToolUse(({"type": "function", "function": {"name": "look"}},), "required", "look")
REQUEST = InteractiveRequest(
    "chat_1",
    "m",
    messages=({"role": "user", "content": "hello"},),
    sampling={"max_tokens": 5, "temperature": 0.0},
    tools=TOOLS,
    template_options={"enable_thinking": False},
    echo=True,
)
DELTA = Delta(
    "chat_1",
    sample_index=1,
    text="water ",
    tool_calls=(ToolCall("call_1", "look", "{}"),),
    token_ids=(7,),
    logprobs=({"token": "water", "logprob": -0.5},),
    finish_reason="stop",
    stop_reason="\n",
    error=RequestError("engine_error", "it broke", param="prompt", retryable=True),
    prompt_tokens=3,
    completion_tokens=1,
    cached_tokens=2,
    is_last=True,
)
SPEC = JobSpec(
    job_id="job_1",
    task=TaskSpec(model="m", prompt="{{ row.text }}", sampling={"max_tokens": 5}, tools=TOOLS),
    num_rows=100,
    num_shards=2,
    shard_rows=64,
    columns={"text": ColumnType.STRING, "more": ColumnType.JSON},
    out="/out",
    created_at_ms=1_700_000_000_000,
    num_rejected=1,
    name="a job",
    id_column="id",
    priority=3,
    metadata={"team": "a"},
    idempotency_key="key",
    version=2,
)
ROW = LandedRow(
    row_index=7,
    custom_id="r7",
    status=RowStatus.FAILED,
    output="water",
    tool_calls=(ToolCall("call_1", "look", "{}"),),
    sample_index=0,
    finish_reason="error",
    prompt_tokens=3,
    error=RequestError("engine_error", "it broke"),
    attempts=2,
    worker="w1",
    queued_at_ms=1,
    started_at_ms=2,
    finished_at_ms=3,
)
SAMPLES: dict[str, Any] = {
    "configuration": Configuration(
        Settings(data="/data", models=("a", "b"), max_num_seqs=64), "m", "w1"
    ),
    "interactive_request": REQUEST,
    "reply": Reply("chat_1", "w1", 4, (DELTA,)),
    "worker_info": WorkerInfo(
        name="w1",
        model="m",
        host="here",
        pid=1,
        slots=8,
        running_rows=2,
        waiting_rows=3,
        tokens_per_s=4.5,
        kv_used_fraction=0.5,
        started_at_ms=1,
        proved_at_ms=2,
        has_chat_template=True,
        max_model_len=None,
        shards=1,
        is_draining=True,
    ),
    "job_spec": SPEC,
    "part_counts": PartCounts(
        rows=4, failed=1, prompt_tokens=5, completion_tokens=6, cached_tokens=2, attempt=9
    ),
    "unusable": Unusable("no such model"),
}


def golden(name: str) -> Any:
    return json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))


def lost(old: Any, new: Any, where: str = "") -> list[str]:
    """Name what an older reader would look for in vain, or find changed."""
    if isinstance(old, dict) and isinstance(new, dict):
        return [
            problem
            for key, value in old.items()
            for problem in (
                lost(value, new[key], f"{where}.{key}")
                if key in new
                else [f"{where}.{key} is gone"]
            )
        ]
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        return [
            p
            for i, (a, b) in enumerate(zip(old, new, strict=True))
            for p in lost(a, b, f"{where}[{i}]")
        ]
    return [] if old == new else [f"{where} was {old!r}, is {new!r}"]


@pytest.mark.parametrize("name", SAMPLES)
def test_what_an_older_process_wrote_is_understood(name: str) -> None:
    kind = ToWorker if name == "unusable" else type(SAMPLES[name])
    assert msgspec.convert(golden(name), kind, strict=False) == SAMPLES[name]


@pytest.mark.parametrize("name", SAMPLES)
def test_an_older_process_finds_what_it_looks_for(name: str) -> None:
    written = json.loads(msgspec.json.encode(SAMPLES[name]))
    assert lost(golden(name), written) == []


def test_frames_do_not_change_under_one_version() -> None:
    """A worker and its engine process are of one version, or the worker ends: see `VERSION`."""
    kinds = [kind for kind in vars(frames).values() if _is_frame(kind)]
    shapes = {kind.__name__: [_shape(f) for f in msgspec.structs.fields(kind)] for kind in kinds}
    assert {"version": VERSION, "frames": shapes} == golden("frames"), (
        "the frames have changed: raise VERSION in frames.py by one, and golden/frames.json with it"
    )


def _is_frame(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct) and kind is not Configuration


def _shape(field: msgspec.structs.FieldInfo) -> str:
    kind = field.type.__name__ if isinstance(field.type, type) else str(field.type)
    return f"{field.name}: {kind}" + ("" if field.required else " = ...")


def test_messages_keep_their_arguments(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    app = create_app(settings)
    sent: list[dict[str, Any]] = []
    monkeypatch.setattr(
        app, "send_task", lambda name, **options: sent.append({"task": name, **options})
    )
    messages.send_shards(app, SPEC, [1])
    messages.send_request(app, REQUEST, "api-1")
    messages.send_finalize(app, "job_1")
    told = [
        {"task": each["task"], "queue": each["queue"].name, "kwargs": each["kwargs"]}
        for each in sent
    ]
    assert lost(golden("messages"), json.loads(msgspec.json.encode(told))) == []
    app.close()


def test_rows_that_another_version_kept_are_taken_or_left(tmp_path: Path) -> None:
    ref = ShardRef("job_1", 0)
    directory = tmp_path / "job_1" / "unlanded"
    directory.mkdir(parents=True)
    content = bytes.fromhex(golden("journal"))
    (directory / "0.1.7.rows").write_bytes(content)
    sealed = [SealedRow(7, "r7", {"text": "x"})]
    kept = {7: [replace(ROW, columns={"text": "x"})]}
    assert finished_rows(tmp_path, ref, sealed) == kept
    for damaged in (content[:-1], content[:-1] + b"?", b"penstock rows 9\n" + content[16:], b""):
        (directory / "0.1.7.rows").write_bytes(damaged)
        assert finished_rows(tmp_path, ref, sealed) == {}


def test_rows_are_kept_until_they_are_removed(tmp_path: Path) -> None:
    ref = ShardRef("job_1", 0)
    (tmp_path / "job_1").mkdir()
    first, second = (Journal(tmp_path, ref, attempt) for attempt in (1, 2))
    first.append([[ROW]])  # not begun: nothing to append to
    assert finished_rows(tmp_path, ref, [SealedRow(7, None, {})]) == {}
    for journal, index in ((first, 7), (second, 8)):
        journal.begin()
        journal.append([[replace(ROW, row_index=index, sample_index=n) for n in range(2)]])
    sealed = [SealedRow(index, None, {"i": index}) for index in range(7, 10)]
    rows = finished_rows(tmp_path, ref, sealed)
    assert {index: [row.sample_index for row in each] for index, each in rows.items()} == {
        7: [0, 1],
        8: [0, 1],
    }
    assert rows[8][0].columns == {"i": 8}
    assert finished_rows(tmp_path, ShardRef("job_1", 1), sealed) == {}
    second.remove()
    assert not list((tmp_path / "job_1" / "unlanded").iterdir())


def test_a_newer_request_is_newer_than_ours() -> None:
    assert REQUEST.version <= REQUEST_VERSION
