"""A state as the server names it, which may be newer than this client. Knows no job and no run."""

from ..jobs.model import JobState


def seen_state(name: str) -> JobState:
    """Read where a job or a run stands.

    A state that is not known here is what it is called and nothing more: it is not final, and no
    member of `JobState`, whose members a newer server has more of.
    """
    try:
        return JobState(name)
    except ValueError:
        state = str.__new__(JobState, name)
        state._name_, state._value_ = name.upper(), name
        return state
