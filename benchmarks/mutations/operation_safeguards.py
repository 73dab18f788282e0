"""The lines that operators rely on: doctor, plans, measurements, deployment. Facts only."""

from .safeguard import Safeguard

_DOCTOR = ("tests/api/test_doctor_redis.py",)
_COMPOSE = ("tests/deployment/test_compose.py",)
_KUBERNETES = ("tests/deployment/test_kubernetes.py", "-k", "internet or key")

OPERATION_SAFEGUARDS = (
    # -- what is told
    Safeguard(
        "a Redis that drops keys is a fault",
        "api/doctor_redis.py",
        'if policy == "noeviction":',
        "if True:",
        _DOCTOR,
    ),
    # -- what is deployed
    Safeguard(
        "Flower asks for a password",
        "compose.yaml",
        "FLOWER_BASIC_AUTH: ${FLOWER_BASIC_AUTH:-}",
        "FLOWER_BASIC_AUTH: ${FLOWER_BASIC_AUTH:-me:secret}",
        _COMPOSE,
    ),
    Safeguard(
        "an API that others reach asks for a key",
        "docs/kubernetes/api.yaml",
        "            - name: PENSTOCK_API_KEY\n",
        "            - name: ANOTHER_KEY\n",
        _KUBERNETES,
    ),
    Safeguard(
        "no pod reaches a cloud's metadata",
        "docs/kubernetes/network.yaml",
        "              - 169.254.0.0/16\n",
        "",
        _KUBERNETES,
    ),
)
