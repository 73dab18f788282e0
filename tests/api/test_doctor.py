"""What doctor says of packages, of the machine, of the API; too old, missing and broken ones."""

import importlib.metadata
import json
import runpy
import socket
from importlib.util import find_spec
from pathlib import Path

import pytest

from penstock.api import doctor_server
from penstock.api.client import Client
from penstock.api.doctor_machine import Gpu, gpus, judged_gpus
from penstock.api.doctor_server import api_server, is_free, judged_worker
from penstock.api.doctor_settings import read_settings
from penstock.api.doctor_versions import torch_cuda, versions
from penstock.api.findings import Finding, Verdict
from penstock.jobs.settings import InvalidSetting, Settings
from tests.ports import reserved_port

from .command import Penstock
from .conftest import MODEL, Stack

H200 = Gpu("NVIDIA H200", 143_771, 140_000, "570.124.06")
OLD = Gpu("Tesla V100", 16_384, 16_000, "470.57.02")


@pytest.mark.parametrize(
    ("package", "version"),
    [("jinja2", "3.1.5"), ("python-multipart", "0.0.26"), ("starlette", "0.49.0")],
)
def test_packages_with_a_known_hole_are_a_fault(
    monkeypatch: pytest.MonkeyPatch, package: str, version: str
) -> None:
    real = importlib.metadata.version
    monkeypatch.setattr(
        importlib.metadata, "version", lambda name: version if name == package else real(name)
    )
    [fault] = [finding for finding in versions() if finding.is_trouble]
    assert fault.name == package
    assert fault.verdict is Verdict.FAILURE
    assert fault.value == f"{version} has a known hole"
    assert fault.advice.startswith(f"pip install '{package}>=")


def test_packages_older_than_we_ask_for_are_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    assert {finding.verdict for finding in versions()} == {Verdict.INFO}
    real = importlib.metadata.version
    monkeypatch.setattr(
        importlib.metadata, "version", lambda name: "4.5.4" if name == "redis" else real(name)
    )
    [fault] = [finding for finding in versions() if finding.is_trouble]
    assert fault.name == "redis"
    assert fault.value == "4.5.4 is too old"


def test_the_cuda_of_torch_is_told_without_loading_it() -> None:
    spec = find_spec("torch")
    assert spec is not None and spec.origin is not None
    told = runpy.run_path(str(Path(spec.origin).with_name("version.py")))
    assert torch_cuda() == told["cuda"]


@pytest.mark.parametrize(
    ("found", "device", "cuda", "verdict", "word"),
    [
        ([], "auto", None, Verdict.INFO, "none"),
        ([], "cuda", "12.8", Verdict.FAILURE, "nvidia-smi finds none"),
        ([H200], "auto", "12.8", Verdict.OK, "torch is built for 12.8"),
        ([H200], "auto", "13.0", Verdict.FAILURE, "driver 580"),
        ([OLD], "auto", "12.1", Verdict.FAILURE, "too old for CUDA 12.1"),
        ([H200], "auto", None, Verdict.WARNING, "built for CPUs"),
        ([H200], "cuda", None, Verdict.FAILURE, "built for CPUs"),
        ([H200], "cpu", None, Verdict.INFO, "NVIDIA H200, 136.7 of 140.4 GiB free"),
    ],
)
def test_a_gpu_is_judged_by_torch_and_by_what_is_asked_of_it(
    found: list[Gpu], device: str, cuda: str | None, verdict: Verdict, word: str
) -> None:
    *_, last = judged_gpus(found, device, cuda, has_torch=True)
    assert last.verdict is verdict
    assert word in f"{last.value}: {last.advice}"


def test_gpus_are_asked_of_the_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "nvidia-smi"
    line = "NVIDIA H200, 143771, 140000, 570.124.06"
    program.write_text(f"#!/bin/sh\necho '{line}'\necho 'NVIDIA H200, [N/A], 1, 570'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert gpus() == [H200]
    program.write_text("#!/bin/sh\nexit 9\n")
    assert gpus() == []


def test_a_worker_that_does_not_serve_is_a_fault() -> None:
    worker = {"name": "w@h", "model": "m", "revision": "r1"}
    assert judged_worker(worker).verdict is Verdict.INFO
    fault = judged_worker({**worker, "not_ready": "corrupt: no header"})
    assert fault.verdict is Verdict.FAILURE
    assert "corrupt: no header" in fault.value


def test_a_port_is_free_or_taken() -> None:
    with reserved_port() as port:
        with socket.create_server(("127.0.0.1", port)):
            assert not is_free(port)
        assert is_free(port)
        found = {(each.topic, each.name): each for each in _asked(f"http://127.0.0.1:{port}")}
    assert found["port", "api"].verdict is Verdict.OK
    assert found["api", "server"].verdict is Verdict.FAILURE


def _asked(url: str) -> list[Finding]:
    return list(api_server(Settings(url=url), was_named=True))


def test_a_token_of_each_model_is_asked_for(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_server, "_TIMEOUT_S", 60.0)
    found = {each.name: each for each in _asked(stack.url)}
    assert found["canary"].verdict is Verdict.OK
    assert found["canary"].value.startswith(f"{MODEL} made a token in ")
    with Client(stack.url) as client:
        assert client.models.ready() == [MODEL]


def test_troubles_end_with_what_to_do(penstock: Penstock, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no directory")
    data = tmp_path / "file" / "data"
    told = penstock("doctor", "--data", data, "--url", "http://127.0.0.1:9", "-o", "table")
    assert told.code == 1
    assert "What to do" in told.out
    assert "PENSTOCK_DATA" in told.out.partition("What to do")[2]


def test_a_program_reads_a_line_for_each_finding(penstock: Penstock, tmp_path: Path) -> None:
    run = penstock("doctor", "--data", tmp_path / "new", "-o", "json")
    lines = [json.loads(line) for line in run.out.splitlines()]
    wanted = {"topic", "name", "value", "ok", "verdict", "advice", "source"}
    assert all(set(line) == wanted for line in lines)
    assert {line["topic"] for line in lines} >= {"setting", "version", "machine", "data", "redis"}
    assert all(line["advice"] for line in lines if line["verdict"] in ("warning", "failure"))
    assert not (tmp_path / "new").exists(), "doctor makes nothing"


def test_a_bad_value_is_told_and_stops_nobody(
    penstock: Penstock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bad.toml").write_text("lease_s = 'soon'")
    monkeypatch.setenv("PENSTOCK_GRACE_S", "long")
    monkeypatch.setenv("PENSTOCK_CONFIG", str(tmp_path / "bad.toml"))
    monkeypatch.setenv("PENSTOCK_DATA", str(tmp_path))
    run = penstock("doctor", "-o", "json")
    found = [json.loads(line) for line in run.out.splitlines()]
    bad = {line["name"]: line["value"] for line in found if line["verdict"] == "failure"}
    assert run.code == 1
    assert "grace_s must be a number, got 'long'" in bad["grace_s"]
    assert "lease_s must be a number, got 'soon'" in bad["config"]
    assert "redis" in {line["topic"] for line in found}
    with pytest.raises(InvalidSetting, match="data must be a directory"):
        read_settings(None, {}, data="s3://bucket")


def test_variables_are_the_source_of_what_they_say_and_misspelt_ones_are_told_of(
    penstock: Penstock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PENSTOCK_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("PENSTOCK_DATTA", "x")
    monkeypatch.setenv("PENSTOCK_API_PORT_8100_TCP", "tcp://10.0.0.1:8100")
    found = penstock("doctor", "--data", tmp_path, "-o", "json").lines
    setting = {line["name"]: line for line in found if line["topic"] == "setting"}
    assert setting["url"]["source"] == "PENSTOCK_URL"
    assert setting["data"]["source"] == "flag"
    assert [name for name in setting if name.startswith("PENSTOCK")] == ["PENSTOCK_DATTA"]
    assert setting["PENSTOCK_DATTA"]["verdict"] == "warning"
    assert setting["PENSTOCK_DATTA"]["advice"] == "is PENSTOCK_DATA meant?"


def test_no_answer_is_worth_a_mark_and_an_advice() -> None:
    server = next(api_server(Settings(url="http://127.0.0.1:9"), was_named=False))
    assert server.verdict is Verdict.WARNING
    assert "penstock up" in server.advice
