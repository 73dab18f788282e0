"""Ids as they are typed: whole, a part, or `latest`; and that looking for one has a bound."""

import httpx2
import pytest

from penstock.api.cli_ids import JOB, NUM_NEWEST, RUN, Kind, UnknownId, whole_id
from penstock.api.cli_options import UsageProblem
from penstock.api.client import Client

from .command import Penstock
from .conftest import IDLE_MODEL, MODEL, Stack
from .plain_workflows import WORKFLOW, rows as workflow_rows
from .scripted import connect, job_json

JOBS = [f"job_01K3ZT4Q9X00000000000000{end}" for end in ("BB", "AB", "AA")]  # newest first
RUNS = [f"run_01K3ZT4Q9Y00000000000000{end}" for end in ("XY", "AB")]


class Lists:
    """A server's lists, a page at a time; the pages asked for are counted."""

    def __init__(
        self, jobs: list[str], runs: list[str], trials: frozenset[str] = frozenset()
    ) -> None:
        self._lists = {"/v1/jobs": jobs, "/v1/workflows/runs": runs}
        self._trials = trials
        self.num_asked = 0

    def answer(self, request: httpx2.Request) -> httpx2.Response:
        self.num_asked += 1
        names, asked = self._lists[request.url.path], request.url.params
        start = names.index(asked["after"]) + 1 if "after" in asked else 0
        page = names[start : start + int(asked["limit"])]
        data = [job_json(id=name, is_preview=name in self._trials) for name in page]
        return httpx2.Response(200, json={"object": "list", "data": data, "has_more": False})

    def client(self) -> Client:
        return connect(self.answer)


@pytest.fixture
def lists() -> Lists:
    return Lists(JOBS, RUNS)


@pytest.mark.parametrize("whole", [*JOBS, *RUNS, "job_01K3ZZZZZZZZZZZZZZZZ4K2J9Q"])
def test_a_whole_id_is_never_looked_up(lists: Lists, whole: str) -> None:
    assert whole_id(lists.client(), whole) == whole
    assert lists.num_asked == 0


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("00BB", JOBS[0]),
        ("00aa", JOBS[2]),
        ("…00AA", JOBS[2]),
        ("01K3ZT4Q9Y00000000000000X", RUNS[0]),
        ("job_01K3ZT4Q9X00000000000000b", JOBS[0]),
        ("run_01K3ZT4Q9Y00000000000000X", RUNS[0]),
        (JOBS[0].lower(), JOBS[0]),
        ("latest", RUNS[0]),
    ],
)
def test_what_only_one_begins_or_ends_with_is_its_name(
    lists: Lists, typed: str, meant: str
) -> None:
    assert whole_id(lists.client(), typed) == meant


@pytest.mark.parametrize(
    ("typed", "named"), [("00AB", [JOBS[1], RUNS[1]]), ("job_01K3", JOBS), ("01k3zt4q9y", RUNS)]
)
def test_what_several_are_called_names_them(lists: Lists, typed: str, named: list[str]) -> None:
    with pytest.raises(UsageProblem, match=f"{typed} may be any of {len(named)}, type more of it"):
        whole_id(lists.client(), typed)
    with pytest.raises(UsageProblem, match=", ".join(named)):
        whole_id(lists.client(), typed)


@pytest.mark.parametrize(
    ("typed", "how"),
    [
        ("ZZZZ", "`penstock jobs` and `penstock workflow runs` list them"),
        ("../etc", "`penstock jobs` and `penstock workflow runs` list them"),
        ("run_00AB", "`penstock workflow runs` lists them"),
        ("job_nope", "`penstock jobs` lists them"),
    ],
)
def test_what_nothing_is_called_says_how_to_look(lists: Lists, typed: str, how: str) -> None:
    with pytest.raises(UnknownId, match=f"is called {typed}; {how}"):
        whole_id(lists.client(), typed)


@pytest.mark.parametrize("typed", ["", "job_", "…", "B", "0BB", "…0BB", "job_01K", "run_0XY"])
def test_a_letter_or_two_name_nothing(lists: Lists, typed: str) -> None:
    with pytest.raises(UsageProblem, match="expected an id, at least 4 characters of one or lates"):
        whole_id(lists.client(), typed)
    assert lists.num_asked == 0


@pytest.mark.parametrize(
    ("kind", "typed", "meant"),
    [
        (JOB, "latest", JOBS[0]),
        (JOB, "00AB", JOBS[1]),
        (JOB, JOBS[2], JOBS[2]),
        (RUN, "latest", RUNS[0]),
        (RUN, "00AB", RUNS[1]),
    ],
)
def test_where_a_kind_is_wanted_no_other_is_meant(
    lists: Lists, kind: Kind, typed: str, meant: str
) -> None:
    assert whole_id(lists.client(), typed, kind) == meant


@pytest.mark.parametrize(("kind", "typed"), [(JOB, RUNS[0]), (JOB, "run_01K3"), (RUN, JOBS[0])])
def test_an_id_of_another_kind_is_refused(lists: Lists, kind: Kind, typed: str) -> None:
    with pytest.raises(UsageProblem, match=f"the id of a {kind[:3]} is wanted here, got {typed}"):
        whole_id(lists.client(), typed, kind)


@pytest.mark.parametrize(("verb", "other"), [("jobs", RUNS[0]), ("workflow runs", JOBS[0])])
def test_a_list_goes_on_behind_what_is_in_it(penstock: Penstock, verb: str, other: str) -> None:
    refused = penstock(*verb.split(), "--after", other, "--url", "http://127.0.0.1:9")
    assert refused.code == 2
    assert f"is wanted here, got {other}" in refused.err


def test_where_there_is_none_of_a_kind_it_is_the_kind_that_is_named() -> None:
    with pytest.raises(UnknownId, match="there is no run yet"):
        whole_id(Lists(JOBS, []).client(), "latest", RUN)
    with pytest.raises(UnknownId, match="none of the newest 500 runs is called 00BB; `penstock wo"):
        whole_id(Lists(JOBS, RUNS).client(), "00BB", RUN)


@pytest.mark.parametrize("typed", ["latest", "00BB", "job_01K3ZT4Q9X", "../etc"])
def test_what_has_no_way_back_is_named_whole(penstock: Penstock, typed: str) -> None:
    refused = penstock("delete", typed, "--url", "http://127.0.0.1:9")  # which nobody answers
    assert refused.code == 2
    assert "there is no way back from delete, so it takes a whole id" in refused.err
    assert typed in refused.err


def test_a_trial_is_no_latest() -> None:
    trials = [f"run_{number:026}" for number in range(40, 20, -1)]
    lists = Lists([], [*trials, f"run_{20:026}"], frozenset(trials))
    assert whole_id(lists.client(), "latest") == f"run_{20:026}"
    with pytest.raises(UnknownId, match="there is no run yet"):
        whole_id(Lists([], trials, frozenset(trials)).client(), "latest", RUN)


def test_where_there_is_nothing_there_is_no_latest() -> None:
    with pytest.raises(UnknownId, match="there is no job and no run yet"):
        whole_id(Lists([], []).client(), "latest")


def test_a_hundred_thousand_jobs_cost_no_more_than_the_newest() -> None:
    lists = Lists([f"job_{number:026}" for number in range(100_000)], [])
    assert whole_id(lists.client(), f"{NUM_NEWEST - 1:09}") == f"job_{NUM_NEWEST - 1:026}"
    with pytest.raises(UnknownId, match="an older one is found by its whole id"):
        whole_id(lists.client(), f"{NUM_NEWEST:09}")
    assert lists.num_asked <= 2 * (NUM_NEWEST // 100 + 1)


def test_every_verb_about_a_job_takes_its_end(penstock: Penstock, stack: Stack) -> None:
    with Client(stack.url) as client:
        rows = [{"text": "fine"}, {"text": "[[fail]]"}]
        done = client.jobs.submit(rows, prompt="{{ row.text }}", model=MODEL).wait()
        waits = client.jobs.submit(rows, prompt="{{ row.text }}", model=IDLE_MODEL)
        run = client.workflows.run(WORKFLOW, {"texts": workflow_rows(1)}).wait()

    def told(verb: str, whole: str, *more: str) -> str:
        found = penstock(verb, whole[-10:].lower(), *more, "--url", stack.url, "-o", "json")
        assert found.code in (0, 3, 4), found.err
        return found.out + found.err

    for verb in ("watch", "show", "results", "errors"):
        assert done.id in told(verb, done.id) or verb == "errors"
        told(verb, run.id)
    assert done.id in told("diff", done.id, done.id[-10:])
    for verb, *more in (["pause"], ["resume"], ["priority", "3"], ["update", "--name", "n"]):
        assert waits.id in told(verb, waits.id, *more)
    assert told("cancel", waits.id).count(waits.id)
    assert f"its rows then stand in {done.id}" in told("retry", done.id)
    assert penstock("delete", waits.id, "--url", stack.url).code == 0
    assert penstock("show", waits.id[-10:], "--url", stack.url).code == 1
    behind = penstock("jobs", "--after", done.id[-10:], "--url", stack.url)
    assert behind.code == 0
    assert done.id not in {line["id"] for line in behind.lines}
    assert penstock("workflow", "runs", "--after", run.id[-10:], "--url", stack.url).code == 0


def test_latest_is_what_was_begun_last(penstock: Penstock, stack: Stack) -> None:
    with Client(stack.url) as client:
        job = client.jobs.submit([{"text": "x"}], prompt="{{ row.text }}", model=MODEL)
        assert penstock("watch", "latest", "--url", stack.url).lines[-1]["id"] == job.id
        run = client.workflows.run(WORKFLOW, {"texts": workflow_rows(1)}).wait()
    assert penstock("show", "latest", "--url", stack.url).lines[0]["id"] == run.id
