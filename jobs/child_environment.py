"""Which environment variables a process sees that people's inputs may take over. Knows names only.

Our own key and the address of Redis, which holds a password, are none of its business.
"""

import re
from collections.abc import Mapping

_SECRETS = frozenset(
    {"PENSTOCK_API_KEY", "PENSTOCK_REDIS_URL", "PENSTOCK_REDIS_PASSWORD", "FLOWER_BASIC_AUTH"}
)
_SYSTEM = re.compile(
    r"PATH|HOME|USER|TMPDIR|TZ|LANG|VIRTUAL_ENV|(LC|LD|PYTHON|OMP|MKL|OPENBLAS|MALLOC|XDG)_?.*"
)
_MODELS = re.compile(r"(HF|TRANSFORMERS|TOKENIZERS|TORCH|HUGGING_?FACE)_.*")
_NETWORK = re.compile(r"(?i:(https?|all|no)_proxy)|SSL_CERT_.*|(REQUESTS|CURL)_CA_BUNDLE")
_STORE = re.compile(r"AWS_.*")
_TOKEN = re.compile(r".*TOKEN")


def bare_environment(
    environ: Mapping[str, str], *, reads_hub: bool, reads_store: bool
) -> dict[str, str]:
    """Return what Python needs to run, and credentials only for where it is to read."""
    wanted = [_SYSTEM, _MODELS]
    if reads_hub or reads_store:
        wanted.append(_NETWORK)
    if reads_store:
        wanted.append(_STORE)
    return {
        name: value
        for name, value in environ.items()
        if any(names.fullmatch(name) for names in wanted)
        and (reads_hub or not (_MODELS.fullmatch(name) and _TOKEN.fullmatch(name)))
    }


def without_secrets(environ: Mapping[str, str]) -> dict[str, str]:
    """Return all but what is ours alone: people's own operations may look for theirs."""
    return {name: value for name, value in environ.items() if name not in _SECRETS}
