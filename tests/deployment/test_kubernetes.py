"""The Kubernetes manifests: valid one by one, and fitting each other, the image and the code."""

import ipaddress
import re
import shutil
import subprocess
from dataclasses import replace
from typing import Any

import httpx2
import kubernetes_validate
import pytest
import yaml

from penstock.api.app import create_app
from penstock.api.cli_serve import API_GRACE_S
from penstock.jobs.engine_process import LOAD_LIMIT_S
from penstock.jobs.settings import Settings
from penstock.jobs.worker import STOP_PATIENCE_S
from tests.api.serving import serving

from .command_line import VARIABLES, parsed
from .conftest import IDLE_MODEL, MODEL
from .manifests import (
    DIRECTORY,
    KUSTOMIZATION,
    OBJECTS,
    ROOT,
    WORKLOADS,
    container,
    environment,
    matched,
    of_kind,
    pod,
    probes,
    secret,
)
from .promql import parse, uses

COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
OURS = ["api", "worker", "flower"]
CUSTOM = "keda.sh/v1alpha1"
NAMESPACE = KUSTOMIZATION["namespace"]


@pytest.mark.parametrize("found", OBJECTS, ids=lambda it: f"{it['kind']}-{it['metadata']['name']}")
def test_an_object_is_one_that_kubernetes_knows(found: dict[str, Any]) -> None:
    if found["apiVersion"] != CUSTOM:
        kubernetes_validate.validate(found, "1.34", strict=True)


def test_kustomize_finds_everything() -> None:
    files = {path.name for path in DIRECTORY.glob("*.yaml")} - {"kustomization.yaml"}
    assert set(KUSTOMIZATION["resources"]) == files
    names = [(each["kind"], each["metadata"]["name"]) for each in OBJECTS]
    assert len(set(names)) == len(names)
    assert NAMESPACE in of_kind("Namespace")


# No wheel brings it, and Debian's is years behind; what it builds is held by the tests above, too.
@pytest.mark.skipif(shutil.which("kubectl") is None, reason="there is no kubectl here")
def test_kustomize_agrees() -> None:
    done = subprocess.run(
        ["kubectl", "kustomize", str(DIRECTORY)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    built = list(yaml.safe_load_all(done.stdout))
    assert len(built) == len(OBJECTS)
    assert all(each["metadata"].get("namespace", NAMESPACE) == NAMESPACE for each in built)
    images = re.findall(r"image: (\S+)", done.stdout)
    assert all(re.search(r":\d+\.\d+\.\d+(-cuda)?$", image) for image in images), images


def test_images_are_those_of_compose_and_pinned() -> None:
    named = {each["name"]: each["newTag"] for each in KUSTOMIZATION["images"]}
    images = {name: container(each)["image"] for name, each in WORKLOADS.items()}
    assert images["redis"] == COMPOSE["services"]["redis"]["image"]
    assert {images[name] for name in OURS} == named.keys()
    version = re.search(r'__version__ = "(.+)"', (ROOT / "__init__.py").read_text())
    assert version is not None
    assert {tag.removesuffix("-cuda") for tag in named.values()} == {version[1]}


@pytest.mark.parametrize("name", WORKLOADS)
def test_what_a_pod_needs_is_there(name: str) -> None:
    workload = WORKLOADS[name]
    assert workload["spec"]["selector"]["matchLabels"] == workload["metadata"]["labels"]
    assert matched(workload["spec"]["selector"]) == [workload], "and nobody else's pods"
    assert pod(workload)["serviceAccountName"] in of_kind("ServiceAccount")
    ports = {port["name"] for port in container(workload)["ports"]}
    for probe in probes(workload):
        assert "exec" in probe or probe["httpGet"]["port"] in ports
    volumes = {each["name"]: each for each in pod(workload)["volumes"]}
    for claim in workload["spec"].get("volumeClaimTemplates", []):
        volumes[claim["metadata"]["name"]] = claim
    assert {each["name"] for each in container(workload)["volumeMounts"]} == volumes.keys()
    for volume in volumes.values():
        if "persistentVolumeClaim" in volume:
            claims = of_kind("PersistentVolumeClaim")
            assert volume["persistentVolumeClaim"]["claimName"] in claims
        if "secret" in volume:
            assert volume["secret"]["secretName"] in of_kind("Secret")
    assert container(workload)["resources"]["limits"]["memory"]


@pytest.mark.parametrize("name", WORKLOADS)
def test_a_pod_may_no_more_than_it_must(name: str) -> None:
    """By the Pod Security Standard `restricted`, and beyond it."""
    user = pod(WORKLOADS[name])["securityContext"]
    assert user["runAsNonRoot"] and user["runAsUser"] > 0
    assert user["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container(WORKLOADS[name])["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod(WORKLOADS[name])["automountServiceAccountToken"] is False
    assert not {"hostNetwork", "hostPID", "hostIPC"} & pod(WORKLOADS[name]).keys()
    if name in OURS:
        image_user = re.search(r"(?m)^USER (\d+):(\d+)$", (ROOT / "Dockerfile").read_text())
        assert image_user is not None
        assert (user["runAsUser"], user["runAsGroup"]) == tuple(map(int, image_user.groups()))
    level = of_kind("Namespace")[NAMESPACE]["metadata"]["labels"]
    assert level["pod-security.kubernetes.io/enforce"] == "restricted"


@pytest.mark.parametrize("name", OURS)
def test_settings_are_those_that_exist(name: str) -> None:
    variables = environment(WORKLOADS[name])
    assert {each for each in variables if each.startswith("PENSTOCK_")} <= VARIABLES
    Settings.load(environ=variables)
    assert variables["PENSTOCK_REDIS_URL"].startswith(f"redis://{name}:")


@pytest.mark.parametrize("name", OURS)
def test_commands_are_understood_and_probed_where_they_listen(name: str) -> None:
    verb, options = parsed(container(WORKLOADS[name])["args"])
    assert verb == name
    listening = options.get("health") or f"{options['host']}:{options['port']}"
    [port] = container(WORKLOADS[name])["ports"]
    assert listening == f"0.0.0.0:{port['containerPort']}"


def test_probes_of_the_api_need_no_worker(settings_of_stack: Settings) -> None:
    alone = replace(settings_of_stack, namespace="alone", api_key="k", models=(IDLE_MODEL,))
    with (
        serving(create_app(alone, host="0.0.0.0")) as url,
        httpx2.Client(base_url=url, timeout=60) as http,
    ):
        as_kubelet = {"host": "10.1.2.3:8100"}
        for probe in probes(WORKLOADS["api"]):
            path = probe["httpGet"]["path"]
            assert http.get(path, headers=as_kubelet).status_code == 200
        assert http.get("/readyz").status_code == 503


def test_probes_of_a_worker_wait_for_its_model() -> None:
    startup, liveness, readiness = probes(WORKLOADS["worker"])
    assert startup["periodSeconds"] * startup["failureThreshold"] >= LOAD_LIMIT_S
    assert startup["httpGet"]["path"] == readiness["httpGet"]["path"] == "/readyz"
    assert liveness["httpGet"]["path"] == "/healthz", "an engine is replaced by the worker itself"


def test_a_worker_is_stopped_no_sooner_than_its_rows_allow() -> None:
    grace_s = float(environment(WORKLOADS["worker"])["PENSTOCK_GRACE_S"])
    given_s = pod(WORKLOADS["worker"])["terminationGracePeriodSeconds"]
    assert given_s >= grace_s + STOP_PATIENCE_S + 10


def test_an_api_has_time_to_be_forgotten_and_to_answer() -> None:
    sleep_s = container(WORKLOADS["api"])["lifecycle"]["preStop"]["sleep"]["seconds"]
    given_s = pod(WORKLOADS["api"])["terminationGracePeriodSeconds"]
    assert given_s >= sleep_s + API_GRACE_S + 10


def test_an_api_that_every_namespace_reaches_asks_for_a_key() -> None:
    assert environment(WORKLOADS["api"])["PENSTOCK_API_KEY"] == secret("penstock-api", "api-key")


def test_one_api_is_always_there() -> None:
    num_allowed = of_kind("PodDisruptionBudget")["api"]["spec"]["minAvailable"]
    assert 1 <= num_allowed < WORKLOADS["api"]["spec"]["replicas"]


def test_services_lead_to_pods() -> None:
    for name, service in of_kind("Service").items():
        [workload] = matched({"matchLabels": service["spec"]["selector"]})
        assert workload["metadata"]["name"] == name
        ports = {port["name"]: port["containerPort"] for port in container(workload)["ports"]}
        for port in service["spec"]["ports"]:
            assert port["port"] == ports[port["targetPort"]]
    [redis_urls] = {
        environment(WORKLOADS[name])["PENSTOCK_REDIS_URL"].rpartition("@")[2] for name in OURS
    }
    assert redis_urls == "redis:6379/0"


def test_budgets_and_policies_choose_pods_that_are_there() -> None:
    for name, budget in of_kind("PodDisruptionBudget").items():
        [workload] = matched(budget["spec"]["selector"])
        assert workload["metadata"]["name"] == name
    everybody = of_kind("NetworkPolicy")["nobody"]["spec"]
    assert everybody == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    for policy in of_kind("NetworkPolicy").values():
        chosen = matched(policy["spec"]["podSelector"])
        assert chosen
        for rule in policy["spec"].get("ingress", []):
            known = {port["name"] for each in chosen for port in container(each)["ports"]}
            assert {port["port"] for port in rule["ports"]} <= known
            peers = [each["podSelector"] for each in rule["from"] if "podSelector" in each]
            assert all(matched(peer) for peer in peers)


def test_the_way_out_leads_to_the_internet_alone() -> None:
    [rule] = of_kind("NetworkPolicy")["to-the-world"]["spec"]["egress"]
    [peer] = rule["to"]
    closed = [ipaddress.ip_network(net) for net in peer["ipBlock"]["except"]]
    inner = ("10.9.8.7", "100.100.100.200", "127.0.0.1", "169.254.169.254", "172.20.0.1")
    for address in (*inner, "192.168.1.1", "0.0.0.1"):
        assert any(ipaddress.ip_address(address) in net for net in closed), address
    assert not any(ipaddress.ip_address("93.184.216.34") in net for net in closed)


def test_those_who_need_redis_reach_it_and_nobody_else() -> None:
    [rule] = of_kind("NetworkPolicy")["redis"]["spec"]["ingress"]
    [peer] = rule["from"]
    let_in = {each["metadata"]["name"] for each in matched(peer["podSelector"])}
    going_out = of_kind("NetworkPolicy")["to-redis"]["spec"]["podSelector"]
    assert {each["metadata"]["name"] for each in matched(going_out)} == let_in == set(OURS)


def test_redis_has_the_users_of_compose_and_their_passwords() -> None:
    users = secret("penstock-redis-users", "users.acl")
    password = re.compile(r" >\S+")
    ours = COMPOSE["configs"]["redis-users"]["content"]
    assert password.sub(" >", users).split("\n") == password.sub(" >", ours).split("\n")
    for name in OURS:
        found = re.match(r"redis://(\w+):([^@]+)@", secret(f"penstock-{name}", "redis-url"))
        assert found is not None
        assert f"user {found[1]} on >{found[2]} " in users
    everything = (DIRECTORY / "secrets.yaml").read_text()
    assert all("CHANGE-ME" in each for each in re.findall(r"(?::|>)(\S+)@redis", everything))
    command = container(WORKLOADS["redis"])["args"]
    for name, value in (("--appendonly", "yes"), ("--maxmemory-policy", "noeviction")):
        assert command[command.index(name) + 1] == value
    mounts = {each["mountPath"] for each in container(WORKLOADS["redis"])["volumeMounts"]}
    assert command[command.index("--aclfile") + 1].rpartition("/")[0] in mounts
    assert command[command.index("--dir") + 1] in mounts


def test_the_autoscaler_says_what_keda_knows() -> None:
    scaled = of_kind("ScaledObject")["worker"]
    assert scaled["apiVersion"] == CUSTOM
    assert set(scaled["spec"]) <= {
        "advanced", "cooldownPeriod", "fallback", "idleReplicaCount", "initialCooldownPeriod",
        "maxReplicaCount", "minReplicaCount", "pollingInterval", "scaleTargetRef", "triggers",
    }  # fmt: skip
    assert set(scaled["spec"]["fallback"]) == {"failureThreshold", "replicas", "behavior"}
    assert scaled["spec"]["fallback"]["behavior"] == "currentReplicasIfHigher"
    assert scaled["spec"]["scaleTargetRef"]["name"] in of_kind("Deployment")
    assert "replicas" not in WORKLOADS["worker"]["spec"], "or every apply would undo the scaling"
    [trigger] = scaled["spec"]["triggers"]
    assert set(trigger) == {"type", "metricType", "metadata", "authenticationRef"}
    assert trigger["metricType"] == "AverageValue", "which is what a fallback needs"
    assert set(trigger["metadata"]) == {
        "url", "format", "valueLocation", "targetValue", "activationTargetValue", "authMode",
    }  # fmt: skip
    assert all(isinstance(value, str) for value in trigger["metadata"].values())
    asks_as = of_kind("TriggerAuthentication")[trigger["authenticationRef"]["name"]]
    [key] = asks_as["spec"]["secretTargetRef"]
    assert key["parameter"] == "token"
    assert secret(key["name"], key["key"]) == environment(WORKLOADS["api"])["PENSTOCK_API_KEY"]


def test_the_autoscaler_asks_for_rows_that_the_api_tells_even_without_workers(
    api: str, settings_of_stack: Settings
) -> None:
    [trigger] = of_kind("ScaledObject")["worker"]["spec"]["triggers"]
    [port] = of_kind("Service")["api"]["spec"]["ports"]
    assert trigger["metadata"]["url"] == f"http://api.{NAMESPACE}.svc:{port['port']}/metrics"
    asked = trigger["metadata"]["valueLocation"]
    [use] = uses(parse(asked))
    assert use.labels == {"model"}
    model = environment(WORKLOADS["api"])["PENSTOCK_MODELS"]
    assert asked == f'{use.metric}{{model="{model}"}}'
    alone = replace(settings_of_stack, namespace="alone", models=(model,))
    with serving(create_app(alone)) as url:
        assert f"{asked} 0.0" in httpx2.get(f"{url}/metrics", timeout=60).text.splitlines()
    told = httpx2.get(f"{api}/metrics", timeout=60).text
    assert f'{use.metric}{{model="{MODEL}"}} 0.0' in told
    assert f'{use.metric}{{model="{IDLE_MODEL}"}} 1.0' in told


def test_two_processes_of_the_api_are_one_to_whoever_asks(
    api: str, settings_of_stack: Settings
) -> None:
    assert WORKLOADS["api"]["spec"]["replicas"] == 2
    job = {"model": MODEL, "prompt": "{{ row.a }}", "input": {"rows": [{"a": "x"}]}}
    headers = {"idempotency-key": "once-for-both"}
    with (
        serving(create_app(settings_of_stack)) as url,
        httpx2.Client(base_url=api, timeout=60) as one,
        httpx2.Client(base_url=url, timeout=60) as other,
    ):
        made = one.post("/v1/jobs", json=job, headers=headers).json()["id"]
        assert other.post("/v1/jobs", json=job, headers=headers).json()["id"] == made
        ended = other.get(f"/v1/jobs/{made}?wait=30").json()
        while ended["status"] != "completed":
            ended = other.get(f"/v1/jobs/{made}?wait=30").json()
        assert made in {each["id"] for each in other.get("/v1/jobs").json()["data"]}
        parts = {"file": ("a.jsonl", b"{}\n")}
        file = other.post("/v1/files", data={"purpose": "batch"}, files=parts).json()["id"]
        assert one.get(f"/v1/files/{file}/content").content == b"{}\n"
