"""Fair shares by themselves: numbers only."""

from collections import Counter

from penstock.jobs.fair_share import Candidate, FairShare


def test_who_was_away_saved_nothing_up() -> None:
    share = FairShare()
    old = Candidate("old", "a", 0, cost=1.0)
    new = Candidate("new", "b", 0, cost=1.0)
    share.offer(old)
    for _ in range(100):
        _turn(share)
    share.offer(new)
    assert Counter(_turn(share) for _ in range(20)) == {"old": 10, "new": 10}
    share.withdraw("old")
    assert {_turn(share) for _ in range(50)} == {"new"}
    share.offer(old)
    assert Counter(_turn(share) for _ in range(20)) == {"old": 10, "new": 10}
    share.withdraw("old")
    share.withdraw("new")
    assert share.choose() is None and len(share) == 0


def test_a_tenants_jobs_share_what_it_gets_and_a_newcomer_among_them_starts_level() -> None:
    share = FairShare()
    for job_id, tenant in (("a1", "a"), ("a2", "a"), ("b1", "b")):
        share.offer(Candidate(job_id, tenant, 0, cost=2.0))
    assert Counter(_turn(share) for _ in range(40)) == {"a1": 10, "a2": 10, "b1": 20}
    share.offer(Candidate("a3", "a", 0, cost=2.0))
    assert Counter(_turn(share) for _ in range(60)) == {"a1": 10, "a2": 10, "a3": 10, "b1": 30}


def test_a_job_in_line_may_change_its_priority() -> None:
    share = FairShare()
    for job_id in ("x", "y", "z"):
        share.offer(Candidate(job_id, "a", 0, cost=1.0))
    share.offer(Candidate("y", "a", 9, cost=1.0))
    assert {_turn(share) for _ in range(10)} == {"y"}
    share.offer(Candidate("y", "a", -1, cost=1.0))
    assert Counter(_turn(share) for _ in range(10)) == {"x": 5, "z": 5}


def test_offers_that_say_nothing_new_leave_nothing_behind() -> None:
    share = FairShare()
    for _ in range(1_000):
        share.offer(Candidate("x", "a", 0, cost=1.0))
        share.offer(Candidate("y", "a", 5, cost=1.0))
    entries = [heap for line in share._lines[""].values() for heap in line.values()]
    assert sum(map(len, entries)) == 2


def test_a_weight_is_a_share() -> None:
    share = FairShare()
    share.offer(Candidate("heavy", "a", 0, cost=2.0, weight=3.0))
    share.offer(Candidate("light", "b", 0, cost=2.0))
    turns = Counter(_turn(share) for _ in range(40))
    assert turns == {"heavy": 30, "light": 10}


def test_who_is_barred_keeps_its_place() -> None:
    share = FairShare()
    share.offer(Candidate("urgent", "a", 9, cost=1.0))
    share.offer(Candidate("patient", "b", 0, cost=1.0))
    barred = share.choose(barred={"a"})
    assert barred is not None
    assert barred.job_id == "patient"
    assert share.choose(barred={"a", "b"}) is None
    assert _turn(share) == "urgent"


def _turn(share: FairShare) -> str:
    chosen = share.choose()
    assert chosen is not None
    share.charge(chosen, 1)
    return chosen.job_id


def test_the_jobs_of_a_run_share_as_one_and_the_last_step_goes_first() -> None:
    share = FairShare()
    steps = [
        Candidate(f"run_1-0{depth}-0000", "a", 0, cost=1.0, group="run_1", depth=depth)
        for depth in range(3)
    ]
    for step in steps:
        share.offer(step)
    share.offer(Candidate("lone", "a", 0, cost=1.0))
    given: Counter[str] = Counter()
    for _ in range(10):
        chosen = share.choose()
        assert chosen is not None
        share.charge(chosen, 1)
        given[chosen.job_id] += 1
    assert given == {"run_1-02-0000": 5, "lone": 5}
    share.withdraw("run_1-02-0000")
    chosen = {share.choose().job_id}  # pyright: ignore[reportOptionalMemberAccess]
    for _ in range(2):
        candidate = share.choose()
        assert candidate is not None
        share.charge(candidate, 1)
        chosen.add(candidate.job_id)
    assert chosen == {"run_1-01-0000", "lone"}, "what the run was given is not forgotten"
    for step in steps:
        share.withdraw(step.job_id)
    share.withdraw("lone")
    assert share.choose() is None
    assert len(share) == 0
