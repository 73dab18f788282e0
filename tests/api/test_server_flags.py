"""The options of verbs that start a server where there is none, given where one runs."""

from pathlib import Path

import pytest

from penstock.api.cli_output import Printer
from penstock.api.cli_server import ServerFlags

NOWHERE = "http://127.0.0.1:9"


@pytest.mark.parametrize(
    ("flags", "unused"),
    [
        (ServerFlags(url=NOWHERE, settings=["max_num_seqs=2", "api_key=k"]), "--set max_num_seqs"),
        (ServerFlags(url=NOWHERE, data="here", settings=["grace_s=1"]), "--data and --set grace_s"),
        (ServerFlags(data="here", settings=[f"url={NOWHERE}"]), "--data"),
    ],
)
def test_what_a_server_that_runs_cannot_be_told_is_named(
    flags: ServerFlags, unused: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert flags.find(Printer(), [])[1] == NOWHERE
    told = capsys.readouterr().err
    assert told.startswith(f"without effect: {unused}; the server at {NOWHERE} has settings")


def test_what_is_for_many_verbs_is_not(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("PENSTOCK_DATA", str(tmp_path))
    in_force, url = ServerFlags(url=NOWHERE).find(Printer(), [])
    assert (in_force.data_dir, url) == (tmp_path, NOWHERE)
    assert capsys.readouterr().err == ""
