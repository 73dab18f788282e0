"""A process that may be taken over finds no credentials but those it works with."""

import pytest

from penstock.jobs.child_environment import bare_environment, without_secrets

SYSTEM = {"PATH": "/bin", "HOME": "/root", "PYTHONPATH": "/here", "LC_ALL": "C", "HF_HOME": "/hf"}
OURS = {"PENSTOCK_API_KEY": "sk", "PENSTOCK_REDIS_URL": "redis://:pw@redis"}
ELSES = {"OPENAI_API_KEY": "sk", "KUBERNETES_SERVICE_HOST": "10.0.0.1"}
HUB = {"HF_TOKEN": "hf", "HUGGING_FACE_HUB_TOKEN": "hf"}
STORE = {"AWS_SECRET_ACCESS_KEY": "s3", "AWS_ENDPOINT_URL": "http://s3"}
NETWORK = {"https_proxy": "http://me:pw@proxy", "SSL_CERT_FILE": "/certs"}
ALL = SYSTEM | OURS | ELSES | HUB | STORE | NETWORK


@pytest.mark.parametrize(
    ("hub", "store", "more"),
    [
        (False, False, {}),
        (True, False, HUB | NETWORK),
        (False, True, STORE | NETWORK),
        (True, True, HUB | STORE | NETWORK),
    ],
)
def test_credentials_are_for_what_is_read(hub: bool, store: bool, more: dict[str, str]) -> None:
    assert bare_environment(ALL, reads_hub=hub, reads_store=store) == SYSTEM | more


def test_operations_find_what_is_theirs() -> None:
    assert without_secrets(ALL | {"PENSTOCK_DATA": "/data"}) == {
        name: value for name, value in ALL.items() if name not in OURS
    } | {"PENSTOCK_DATA": "/data"}
