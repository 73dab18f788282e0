from pathlib import Path

from penstock.jobs.chat_usage import ChatTokens, ChatUsage

DAY_S = 86_400
FOR_EVER = 2**40


def test_what_chats_use_is_added_up_over_processes_and_restarts(tmp_path: Path) -> None:
    one, other = ChatUsage(tmp_path), ChatUsage(tmp_path)
    for usage in (one, other):
        usage.start()
        usage.count("acme", "m", 10, 5, 2)
        usage.count("acme", "m", 1, 1, 0)
        usage.count("other", "m", 100, 100, 0)
    one.stop()
    other.stop()
    later = ChatUsage(tmp_path)
    later.count("acme", "m", 1, 0, 0)
    total = ChatTokens(requests=5, prompt_tokens=23, completion_tokens=12, cached_tokens=4)
    assert later.used("acme", 0, FOR_EVER) == {"m": total}
    assert later.used("nobody", 0, FOR_EVER) == {}


def test_days_are_told_apart(tmp_path: Path) -> None:
    usage = ChatUsage(tmp_path)
    usage.count("acme", "m", 10, 5, 2)
    usage.flush()
    [today] = tmp_path.iterdir()
    today.rename(tmp_path / "1970-01-03")
    assert usage.used("acme", 2 * DAY_S, 2 * DAY_S + 1)["m"].prompt_tokens == 10
    assert usage.used("acme", 0, 2 * DAY_S) == usage.used("acme", 2 * DAY_S + 1, FOR_EVER) == {}


def test_what_cannot_be_written_or_read_is_no_ones_trouble(tmp_path: Path) -> None:
    blocked = tmp_path / "usage"
    blocked.write_text("")
    usage = ChatUsage(blocked)
    usage.count("acme", "m", 10, 5, 2)
    usage.flush()
    blocked.unlink()
    assert usage.used("acme", 0, FOR_EVER)["m"].requests == 1
    [file] = blocked.glob("*/*.json")
    file.write_text("{")
    assert ChatUsage(blocked).used("acme", 0, FOR_EVER) == {}
