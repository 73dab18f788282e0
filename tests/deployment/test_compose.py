"""compose.yaml by the rules of the compose specification, and by our own.

There is no engine here to run it: what it refers to must be there, what it says to `penstock` must
be understood, and what is asked of a healthy container is asked of a real API.
"""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from penstock.api.cli_serve import API_GRACE_S
from penstock.jobs.worker import STOP_PATIENCE_S

from .command_line import VARIABLES, parsed, seconds

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "compose.yaml").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = sorted(name for name, service in SERVICES.items() if "build" in service)
KEYS = {
    "build", "cap_drop", "command", "configs", "depends_on", "deploy", "environment",
    "healthcheck", "image", "init", "logging", "ports", "profiles", "read_only", "restart",
    "security_opt", "shm_size", "stop_grace_period", "tmpfs", "volumes",
}  # fmt: skip
ASKED_FOR = {"PENSTOCK_REDIS_PASSWORD", "FLOWER_BASIC_AUTH"}  # beside settings
PINNED = re.compile(r"[a-z0-9./-]+:v?\d+\.\d+\.\d+")


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_says_what_compose_knows(name: str) -> None:
    assert set(SERVICES[name]) <= KEYS
    deploy = SERVICES[name].get("deploy", {}).get("resources", {})
    assert set(deploy) <= {"limits", "reservations"}
    health = SERVICES[name].get("healthcheck", {})
    assert set(health) <= {"test", "interval", "timeout", "retries", "start_period"}
    for duration in ("interval", "timeout", "start_period"):
        assert seconds(health.get(duration, "1s")) > 0


def test_the_file_as_a_whole_says_what_compose_knows() -> None:
    known = {"name", "services", "configs", "volumes"}
    assert {key for key in COMPOSE if not key.startswith("x-")} == known


@pytest.mark.parametrize("name", SERVICES)
def test_what_a_service_refers_to_is_there(name: str) -> None:
    service = SERVICES[name]
    for volume in service.get("volumes", []):
        source, target, *mode = volume.split(":")
        assert target.startswith("/")
        if source.startswith("./"):
            assert (ROOT / source).is_dir(), source
            assert mode == ["ro"], f"{source} is ours"
        else:
            assert source in COMPOSE["volumes"], source
    for config in service.get("configs", []):
        assert config["source"] in COMPOSE["configs"]
        assert config["target"].startswith("/")
    for other, wish in service.get("depends_on", {}).items():
        assert other in SERVICES
        assert wish == {"condition": "service_healthy"}
        assert "build" in SERVICES[other] or "healthcheck" in SERVICES[other]
        needed = set(SERVICES[other].get("profiles", ()))
        assert needed <= set(service.get("profiles", ())), f"{name} would start without {other}"


def test_all_that_is_declared_is_used() -> None:
    used = [item for service in SERVICES.values() for item in service.get("volumes", [])]
    assert {item.partition(":")[0] for item in used} >= set(COMPOSE["volumes"])
    named = {item["source"] for each in SERVICES.values() for item in each.get("configs", [])}
    assert named == set(COMPOSE["configs"])


def test_variables_are_settings_and_may_be_missing() -> None:
    without_comments = re.sub(r"(?m)^\s*#.*$", "", TEXT)
    for name, default in re.findall(r"\$\{(\w+)([^}]*)\}", without_comments):
        assert name in VARIABLES | ASKED_FOR, name
        assert default.startswith((":-", "-")), f"{name} must not be needed"
    assert re.findall(r"\$[^{$]", without_comments) == []


@pytest.mark.parametrize("name", SERVICES)
def test_the_environment_is_of_settings_that_exist(name: str) -> None:
    environment = SERVICES[name].get("environment", {})
    assert {key for key in environment if key.startswith("PENSTOCK_")} <= VARIABLES
    if name in OURS:
        user = re.match(r"redis://(\w+):", environment["PENSTOCK_REDIS_URL"])
        users = COMPOSE["configs"]["redis-users"]["content"]
        assert user is not None
        assert f"user {user[1]} on " in users
        assert user[1] == name.removesuffix("-gpu")
    assert ("PENSTOCK_API_KEY" in environment) is (name == "api"), "whoever needs no key has none"


def interpolated(text: str, **given: str) -> str:
    """Put in what is given for variables, the innermost first, as compose does."""

    def value(found: re.Match[str]) -> str:
        name, sign, words = found.groups()
        said = given.get(name, "")
        return (words if said else "") if sign == ":+" else said or words

    while "${" in text:
        text = re.sub(r"\$\{(\w+)(:[-+])?([^${}]*)\}", value, text)
    return text


@pytest.mark.parametrize(
    ("linking", "variable", "linked"),
    [("api", "PENSTOCK_FLOWER_URL", "flower"), ("flower", "PENSTOCK_PAGES_URL", "api")],
)
def test_pages_and_flower_lead_to_each_other(linking: str, variable: str, linked: str) -> None:
    url = SERVICES[linking]["environment"][variable]
    [port] = SERVICES[linked]["ports"]
    open_at = port.rpartition(":")[0]
    assert interpolated(url, FLOWER_BASIC_AUTH="me:secret") == f"http://{open_at}"
    assert interpolated(url, **{variable: "https://here.example"}) == "https://here.example"


def test_where_flower_is_not_asked_for_nothing_leads_to_it() -> None:
    assert interpolated(SERVICES["api"]["environment"]["PENSTOCK_FLOWER_URL"]) == ""


@pytest.mark.parametrize("name", SERVICES)
def test_ports_are_open_to_this_machine_only(name: str) -> None:
    assert all(port.startswith("127.0.0.1:") for port in SERVICES[name].get("ports", []))


@pytest.mark.parametrize("name", SERVICES)
def test_no_log_grows_without_bound(name: str) -> None:
    options = SERVICES[name]["logging"]["options"]
    assert options["max-size"].endswith("m") and int(options["max-file"]) > 1


@pytest.mark.parametrize("name", SERVICES)
def test_images_are_pinned(name: str) -> None:
    if name in OURS:
        assert SERVICES[name]["image"].partition(":")[0] == "penstock"
    else:
        assert PINNED.fullmatch(SERVICES[name]["image"])


@pytest.mark.parametrize("name", OURS)
def test_our_containers_can_do_no_more_than_they_must(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] and service["cap_drop"] == ["ALL"] and service["init"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service and "user" not in service  # the image's own


@pytest.mark.parametrize("name", OURS)
def test_our_commands_are_understood(name: str) -> None:
    service = SERVICES[name]
    verb, options = parsed(service["command"])
    assert verb == name.removesuffix("-gpu")
    url = service["environment"].get("HEALTH_URL", "http://127.0.0.1:8100/healthz")
    listening = options.get("health") or f"{options['host']}:{options['port']}"
    assert url.split("/")[2].partition(":")[2] == listening.partition(":")[2]
    for port in service.get("ports", []):
        assert port.rpartition(":")[2] == str(options["port"])


@pytest.mark.parametrize("name", ["worker", "worker-gpu"])
def test_a_worker_is_stopped_no_sooner_than_its_rows_allow(name: str) -> None:
    service = SERVICES[name]
    grace_s = float(service["environment"]["PENSTOCK_GRACE_S"])
    assert seconds(service["stop_grace_period"]) >= grace_s + STOP_PATIENCE_S


def test_an_api_has_time_to_answer() -> None:
    assert seconds(SERVICES["api"]["stop_grace_period"]) >= API_GRACE_S + 10


def test_nobody_may_do_more_than_look_whom_nobody_has_let_in() -> None:
    assert interpolated(SERVICES["flower"]["environment"]["FLOWER_BASIC_AUTH"]) == ""
    grafana = SERVICES["grafana"]["environment"]
    assert grafana["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"
    assert grafana["GF_AUTH_DISABLE_LOGIN_FORM"] == "true"
    assert grafana["GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION"] == "true"


def test_a_gpu_is_asked_for_where_the_image_can_use_one() -> None:
    worker = SERVICES["worker-gpu"]
    [device] = worker["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}
    assert worker["build"]["args"] == {"TORCH_INDEX": ""}
    assert worker["image"] != SERVICES["worker"]["image"]
    assert worker["profiles"] == ["gpu"] and "profiles" not in SERVICES["worker"]


def test_redis_keeps_what_it_is_told_and_drops_nothing() -> None:
    command = SERVICES["redis"]["command"]
    for option in ("--appendonly yes", "--maxmemory-policy noeviction", "--aclfile"):
        assert option in command
    assert f"{SERVICES['redis']['configs'][0]['target']}" in command


def variables(text: object) -> set[str]:
    return set(re.findall(r"\$\{(\w+)", str(text)))


def test_a_new_secret_makes_a_new_container() -> None:
    """What compose compares is the service, not the files it is given; those are made with it."""
    for name, service in SERVICES.items():
        for config in service.get("configs", []):
            asked_for = variables(COMPOSE["configs"][config["source"]])
            others = [SERVICES[other] for other in service.get("depends_on", {})]
            assert asked_for <= variables([service, *others]), f"{name} would keep the old one"


def test_prometheus_and_grafana_find_their_files() -> None:
    [mount] = [each for each in SERVICES["prometheus"]["volumes"] if each.startswith("./")]
    source, target, _ = mount.split(":")
    assert f"--config.file={target}/prometheus.yml" in SERVICES["prometheus"]["command"]
    config = yaml.safe_load((ROOT / source / "prometheus.yml").read_text())
    key_files = {each["target"] for each in SERVICES["prometheus"]["configs"]}
    [scrape] = [each for each in config["scrape_configs"] if each["job_name"] == "penstock"]
    assert {scrape["authorization"]["credentials_file"]} == key_files
    assert all((ROOT / source / each).is_file() for each in config["rule_files"])
    mounts = {each.split(":")[1]: each.split(":")[0] for each in SERVICES["grafana"]["volumes"]}
    provider = ROOT / mounts["/etc/grafana/provisioning"] / "dashboards/penstock.yml"
    [where] = yaml.safe_load(provider.read_text())["providers"]
    home = SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    folder = where["options"]["path"]
    assert Path(home).parent == Path(folder)
    assert (ROOT / mounts[folder] / Path(home).name).is_file()


def health_check(url: str) -> int:
    """Do what the image's HEALTHCHECK does, as the container would."""
    [command] = re.findall(r"(?m)^HEALTHCHECK [^\n]*\\\n\s+CMD (\[.*\])$", dockerfile())
    words = json.loads(command)
    assert words[0] == "python"
    done = subprocess.run([sys.executable, *words[1:]], env={"HEALTH_URL": url}, timeout=60)
    return done.returncode


def dockerfile() -> str:
    return (ROOT / "Dockerfile").read_text()


def test_a_healthy_api_is_told_from_others(api: str) -> None:
    assert health_check(f"{api}/healthz") == 0
    assert health_check(f"{api}/readyz") == 0
    assert health_check(f"{api}/v1/nothing-of-that-name") != 0
    assert health_check("http://127.0.0.1:9/healthz") != 0
