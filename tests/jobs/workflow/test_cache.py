"""Answers of earlier runs: found by what was asked, bounded, and never in the way."""

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from penstock.jobs.model import RequestError
from penstock.jobs.row_request import CHAT
from penstock.jobs.workflow.asks import Answer, Ask
from penstock.jobs.workflow.cache import RowCache, ask_key


def ask(key: str = "17", **body: Any) -> Ask:
    return Ask(key, CHAT, "m", {"model": "m", "prompt": "hi", "seed": 1, **body})


ANSWER = Answer(
    text="hello",
    finish_reason="stop",
    vector=b"\x00\x01",
    tool_calls=({"name": "f", "arguments": "{}"},),
    prompt_tokens=3,
    completion_tokens=4,
    attempts=2,
)


def sized(text: str) -> Answer:
    return Answer(text=text)


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def test_an_answer_is_found_again_by_another_process(tmp_path: Path) -> None:
    RowCache.open(tmp_path, "acme").put_many({"a": ANSWER, "b": sized("x")})
    found = RowCache.open(tmp_path, "acme").get_many(["b", "a", "c"])
    assert found == {"a": ANSWER, "b": sized("x")}


def test_machines_that_share_a_disk_share_it(tmp_path: Path) -> None:
    RowCache.open(tmp_path, "acme").put_many({"a": ANSWER})
    (path,) = tmp_path.iterdir()  # with no memory beside it that one machine alone would see
    with path.open("rb") as file:
        assert file.read(20)[18:] == b"\1\1", "2 would be WAL"


def test_tenants_do_not_see_each_other(tmp_path: Path) -> None:
    RowCache.open(tmp_path, "acme").put_many({"a": ANSWER})
    assert RowCache.open(tmp_path, "other").get_many(["a"]) == {}


def test_more_keys_than_a_query_takes(tmp_path: Path) -> None:
    cache = RowCache.open(tmp_path, "acme")
    answers = {f"k{index}": sized(str(index)) for index in range(1_234)}
    cache.put_many(answers)
    assert cache.get_many([*answers, "absent"]) == answers


def test_a_failure_is_not_kept(tmp_path: Path) -> None:
    cache = RowCache.open(tmp_path, "acme")
    cache.put_many({"a": Answer(error=RequestError("engine_error", "lost")), "b": ANSWER})
    assert cache.get_many(["a", "b"]) == {"b": ANSWER}


def test_what_cannot_be_written_is_left_out_alone(tmp_path: Path) -> None:
    cache = RowCache.open(tmp_path, "acme")
    cache.put_many({"a": sized("half a pair: \ud800"), "b": ANSWER})
    assert cache.get_many(["a", "b"]) == {"b": ANSWER}


def test_what_was_not_used_for_longest_goes_first(tmp_path: Path) -> None:
    clock = Clock()
    cache = RowCache(tmp_path / "c.sqlite", max_answers=10, clock=clock)
    cache.put_many({f"old{index}": ANSWER for index in range(5)})
    clock.now += 10_000
    cache.put_many({f"new{index}": ANSWER for index in range(5)})
    clock.now += 10_000
    assert "old0" in cache.get_many(["old0"])  # a use counts
    clock.now += 10_000
    cache.put_many({"last": ANSWER})
    kept = cache.get_many(
        [*(f"old{index}" for index in range(5)), *(f"new{index}" for index in range(5)), "last"]
    )
    assert sorted(kept) == ["last", "new0", "new1", "new2", "new3", "new4", "old0", "old3", "old4"]


def test_bytes_are_bounded_too(tmp_path: Path) -> None:
    clock = Clock()
    cache = RowCache(tmp_path / "c.sqlite", max_bytes=20_000, clock=clock)
    for index in range(30):
        clock.now += 10
        cache.put_many({f"k{index:02}": sized("x" * 2_000)})
    kept = sorted(cache.get_many([f"k{index:02}" for index in range(30)]))
    assert 5 <= len(kept) <= 10
    assert kept[-1] == "k29"
    assert kept == [f"k{index:02}" for index in range(30 - len(kept), 30)]


def test_an_answer_that_comes_twice_counts_once(tmp_path: Path) -> None:
    cache = RowCache(tmp_path / "c.sqlite", max_answers=3)
    for _ in range(10):
        cache.put_many({"a": ANSWER, "b": ANSWER})
    assert cache.get_many(["a", "b"]).keys() == {"a", "b"}


@pytest.mark.parametrize("content", [b"not a database at all" * 100, b"SQLite format 3\x00" * 500])
def test_a_damaged_file_is_set_aside_and_begun_anew(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "answers-acme.sqlite"
    path.write_bytes(content)
    cache = RowCache.open(tmp_path, "acme")
    assert cache.get_many(["a"]) == {}
    assert path.with_suffix(".damaged").read_bytes() == content
    cache.put_many({"a": ANSWER})
    assert cache.get_many(["a"]) == {"a": ANSWER}


def test_a_file_of_another_layout_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "answers-acme.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")
        connection.execute("CREATE TABLE answer (something TEXT)")
    cache = RowCache.open(tmp_path, "acme")
    assert cache.get_many(["a"]) == {}
    cache.put_many({"a": ANSWER})
    assert cache.get_many(["a"]) == {"a": ANSWER}
    assert path.with_suffix(".damaged").exists()


def test_damage_while_it_is_open(tmp_path: Path) -> None:
    cache = RowCache.open(tmp_path, "acme")
    cache.put_many({f"k{index}": sized("x" * 500) for index in range(2_000)})
    cache.close()
    path = tmp_path / "answers-acme.sqlite"
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    path.write_bytes(content)
    assert cache.get_many(["k1"]) == {}
    cache.put_many({"a": ANSWER})
    cache.put_many({"a": ANSWER})
    assert cache.get_many(["a"]) == {"a": ANSWER}


def test_it_may_be_deleted_while_it_is_open(tmp_path: Path) -> None:
    cache = RowCache.open(tmp_path, "acme")
    cache.put_many({"a": ANSWER})
    for path in tmp_path.iterdir():
        path.unlink()
    assert cache.get_many(["a"]) == {}
    cache.put_many({"b": ANSWER})
    assert RowCache.open(tmp_path, "acme").get_many(["b"]) == {"b": ANSWER}


def test_where_there_can_be_no_file_everything_is_asked_again(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where a directory should be")
    cache = RowCache.open(tmp_path / "cache", "acme")
    cache.put_many({"a": ANSWER})
    assert cache.get_many(["a"]) == {}


def test_a_reader_sees_what_a_writer_adds(tmp_path: Path) -> None:
    writer, reader = RowCache.open(tmp_path, "acme"), RowCache.open(tmp_path, "acme")
    assert reader.get_many(["a"]) == {}
    writer.put_many({"a": ANSWER})
    assert reader.get_many(["a"]) == {"a": ANSWER}


OTHERS: list[Mapping[str, Any]] = [
    *({"prompt": "ho"}, {"seed": 2}, {"temperature": 0.5}, {"max_tokens": 5}),
    {"response_format": {"type": "json_object"}},
]


@pytest.mark.parametrize("other", OTHERS)
def test_whatever_is_asked_otherwise_has_another_key(other: Mapping[str, Any]) -> None:
    assert ask_key(ask(**other)) != ask_key(ask())


def test_the_key_is_of_what_is_asked_not_of_who_asks() -> None:
    turned = Ask("18", CHAT, "m", dict(reversed(list(ask().body.items()))))
    assert ask_key(turned) == ask_key(ask())


def test_another_model_or_revision_has_another_key() -> None:
    assert ask_key(Ask("17", CHAT, "n", ask().body)) != ask_key(ask())
    assert ask_key(ask(), "abc") != ask_key(ask())
    assert ask_key(ask(), "abc") == ask_key(ask(), "abc")


def test_where_nothing_is_left_to_chance_the_seed_does_not_matter() -> None:
    assert ask_key(ask(temperature=0, seed=1)) == ask_key(ask(temperature=0, seed=2))
    assert ask_key(ask(temperature=0.1, seed=1)) != ask_key(ask(temperature=0.1, seed=2))
