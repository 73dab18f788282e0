"""What is in force and where it came from: flags over environment over TOML over defaults."""

import math
import os
import tomllib
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Self

from ..engine.tool_calls import ToolFormat
from .home_path import NoSuchHome, expanded

DEFAULT_URL = "http://127.0.0.1:8100"
DEMO_MODEL = "penstock-demo"


class InvalidSetting(ValueError):
    """A setting has a value that cannot be used; the message says which and from where."""


def _setting(
    default: Any,
    env: str,
    text: str,
    *,
    at_least: float | None = None,
    choices: tuple[str, ...] = (),
) -> Any:
    metadata = {"env": env, "help": text, "at_least": at_least, "choices": choices}
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Every setting of the server side. Field metadata names the variable and explains it."""

    url: str = _setting(DEFAULT_URL, "PENSTOCK_URL", "where the API listens, and clients look")
    api_key: str | None = _setting(None, "PENSTOCK_API_KEY", "key that may do all, if any")
    redis_url: str | None = _setting(
        None, "PENSTOCK_REDIS_URL", "Redis server; without it `up` starts one of its own"
    )
    data: str = _setting("./penstock-data", "PENSTOCK_DATA", "directory of jobs and of the server")
    models: tuple[str, ...] = _setting(
        (DEMO_MODEL,), "PENSTOCK_MODELS", "models to serve: ids or directories, comma-separated"
    )
    results: str | None = _setting(
        None,
        "PENSTOCK_RESULTS",
        "where rows go unless a job says otherwise: a directory or s3://bucket/prefix; default: "
        "`results` in the data directory",
    )
    s3_endpoint: str | None = _setting(
        None, "PENSTOCK_S3_ENDPOINT", "S3 server other than Amazon's, as in http://minio:9000"
    )
    namespace: str = _setting("penstock", "PENSTOCK_NAMESPACE", "prefix of every key and queue")
    dtype: str = _setting("auto", "PENSTOCK_DTYPE", "auto, float32, bfloat16 or float16")
    quantization: str = _setting(
        "none", "PENSTOCK_QUANTIZATION", "none, or int8 for smaller, faster layers on a CPU"
    )
    device: str = _setting("auto", "PENSTOCK_DEVICE", "auto, cpu or cuda")
    max_num_seqs: int | None = _setting(
        None,
        "PENSTOCK_MAX_NUM_SEQS",
        "bulk rows decoded together at most; default: 256 on a GPU, 64 on a CPU",
        at_least=1,
    )
    max_num_batched_tokens: int | None = _setting(
        None,
        "PENSTOCK_MAX_NUM_BATCHED_TOKENS",
        "tokens per engine step at most; default: the engine's choice",
        at_least=1,
    )
    max_model_len: int | None = _setting(
        None,
        "PENSTOCK_MAX_MODEL_LEN",
        "longest prompt plus answer in tokens; default: the model's",
        at_least=1,
    )
    kv_cache_gb: float | None = _setting(
        None, "PENSTOCK_KV_CACHE_GB", "size of the KV cache, GiB", at_least=0.001
    )
    kv_cache_dtype: str = _setting(
        "auto", "PENSTOCK_KV_CACHE_DTYPE", "auto, or fp8_e4m3 for twice the tokens in the KV cache"
    )
    num_threads: int | None = _setting(
        None,
        "PENSTOCK_NUM_THREADS",
        "CPU threads of the engine; default: the machine's cores",
        at_least=1,
    )
    tool_format: str = _setting(
        "auto",
        "PENSTOCK_TOOL_FORMAT",
        "how models write tool calls: auto, hermes or llama",
        choices=("auto", *ToolFormat),
    )
    lease_s: float = _setting(
        4.0, "PENSTOCK_LEASE_S", "how long a silent worker keeps its shards", at_least=2
    )
    grace_s: float = _setting(
        20.0,
        "PENSTOCK_GRACE_S",
        "time a stopping worker has to finish rows; the API gives answers 5 s",
        at_least=0,
    )
    webhook_hosts: tuple[str, ...] = _setting(
        (),
        "PENSTOCK_WEBHOOK_HOSTS",
        "hosts that webhooks may lead to although they are not public: host or host:port, "
        "comma-separated",
    )
    workflow_ops: tuple[str, ...] = _setting(
        (),
        "PENSTOCK_WORKFLOW_OPS",
        "operations that workflows may name, as name=module:function, comma-separated",
    )
    max_file_gb: float = _setting(
        8.0, "PENSTOCK_MAX_FILE_GB", "largest file that the API keeps, GB", at_least=0.000001
    )
    max_waiting_chats: int = _setting(
        1_000,
        "PENSTOCK_MAX_WAITING_CHATS",
        "chats of one API process that may wait for their first token; more are told to come again",
        at_least=1,
    )
    body_timeout_s: float = _setting(
        30.0,
        "PENSTOCK_BODY_TIMEOUT_S",
        "how long the API waits for more of a request's body",
        at_least=1,
    )
    flower_url: str | None = _setting(
        None, "PENSTOCK_FLOWER_URL", "where people find Flower, for links of the pages to it"
    )
    pages_url: str | None = _setting(
        None,
        "PENSTOCK_PAGES_URL",
        "where people open the API's pages, for links of Flower to them; default: the API's `url`",
    )
    hang_limit_s: float = _setting(
        120.0,
        "PENSTOCK_HANG_LIMIT_S",
        "how long an engine may stand still before it is replaced, unless its steps are slow",
        at_least=1,
    )

    @classmethod
    def load(
        cls,
        *,
        toml: Path | None = None,
        environ: Mapping[str, str] | None = None,
        **flags: Any,
    ) -> Self:
        """Read all sources; a flag that is None counts as not given.

        Raises:
            InvalidSetting: a value cannot be read, or the TOML file names an unknown setting.
        """
        return cls.load_with_sources(toml=toml, environ=environ, **flags)[0]

    @classmethod
    def load_with_sources(
        cls,
        *,
        toml: Path | None = None,
        environ: Mapping[str, str] | None = None,
        **flags: Any,
    ) -> tuple[Self, dict[str, str]]:
        """As `load`, and tell for each setting where its value came from."""
        environ = os.environ if environ is None else environ
        path = toml or (Path(environ["PENSTOCK_CONFIG"]) if "PENSTOCK_CONFIG" in environ else None)
        values: dict[str, Any] = {}
        sources = {item.name: "default" for item in fields(cls)}
        if path is not None:
            for name, value in _read_toml(path).items():
                if name not in sources:
                    raise InvalidSetting(f"{path}: unknown setting {name!r}")
                values[name], sources[name] = value, str(path)
        for item in fields(cls):
            variable = item.metadata["env"]
            if environ.get(variable):
                values[item.name], sources[item.name] = environ[variable], variable
            # The command line hands on what it found in the environment as if it were a flag.
            if flags.get(item.name) not in (None, environ.get(variable)):
                values[item.name], sources[item.name] = flags[item.name], "flag"
        typed = {name: _read(cls, name, value, sources[name]) for name, value in values.items()}
        for item in fields(cls):
            if item.name in typed:
                _check_range(item, typed[item.name], sources[item.name])
                _check_choice(item, typed[item.name], sources[item.name])
        _check_is_directory("data", typed.get("data", ""), sources["data"])
        for name in ("data", "results"):
            _check_home(name, typed.get(name, ""), sources[name])
        return replace(cls(), **typed), sources

    @property
    def data_dir(self) -> Path:
        """The data directory, absolute."""
        return expanded(self.data).resolve()

    @property
    def max_file_bytes(self) -> int:
        """The largest file that the API keeps."""
        return int(self.max_file_gb * 1e9)

    @property
    def jobs_dir(self) -> Path:
        """Where the job directories are."""
        return self.data_dir / "jobs"

    @property
    def runs_dir(self) -> Path:
        """Where the directories of workflows' runs are."""
        return self.data_dir / "runs"

    @property
    def keys_dir(self) -> Path:
        """Where the API's keys are kept."""
        return self.data_dir / "keys"

    @property
    def tenants_dir(self) -> Path:
        """Where it is kept what tenants may have."""
        return self.data_dir / "tenants"

    @property
    def files_dir(self) -> Path:
        """Where the files of clients lie."""
        return self.data_dir / "files"

    @property
    def part_uploads_dir(self) -> Path:
        """Where files arrive in parts."""
        return self.data_dir / "part-uploads"

    @property
    def results_dir(self) -> Path:
        """Where rows land unless another directory is named."""
        return self.data_dir / "results"

    def to_environ(self) -> dict[str, str]:
        """Render the settings that differ from their defaults for a child process."""
        default = type(self)()
        environ = {}
        for item in fields(self):
            value = getattr(self, item.name)
            if value is not None and value != getattr(default, item.name):
                text = ",".join(value) if isinstance(value, tuple) else str(value)
                environ[item.metadata["env"]] = text
        return environ


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise InvalidSetting(f"cannot read settings from {path}: {error}") from error


def _check_range(item: Field[Any], value: Any, source: str) -> None:
    lowest = item.metadata["at_least"]
    if lowest is None or value is None or (math.isfinite(value) and value >= lowest):
        return
    wanted = f"at least {lowest:g}" if math.isfinite(value) else "a finite number"
    raise InvalidSetting(f"{item.name} must be {wanted}, got {value!r} (from {source})")


def _check_choice(item: Field[Any], value: Any, source: str) -> None:
    choices = item.metadata["choices"]
    if choices and value not in choices:
        listed = ", ".join(choices)
        raise InvalidSetting(f"{item.name} must be one of {listed}, got {value!r} (from {source})")


def _check_is_directory(name: str, value: str, source: str) -> None:
    if "://" in value:
        raise InvalidSetting(
            f"{name} must be a directory, got {value!r} (from {source}): what makes a job safe are "
            "fsync and links; PENSTOCK_RESULTS takes s3://bucket/prefix for the rows"
        )


def _check_home(name: str, value: str, source: str) -> None:
    try:
        expanded(value)
    except NoSuchHome as error:
        raise InvalidSetting(f"{name} is {value!r} (from {source}): {error}") from error


def _read(cls: type[Settings], name: str, value: Any, source: str) -> Any:
    """Bring a value to its field's type: numbers from text, a tuple from a comma-separated list."""
    kind = cls.__annotations__[name]
    try:
        if kind == tuple[str, ...]:
            items = value.split(",") if isinstance(value, str) else value
            return tuple(str(item).strip() for item in items if str(item).strip())
        if kind in (int, int | None):
            return int(value)
        if kind in (float, float | None):
            return float(value)
        return str(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidSetting(f"{name} must be a number, got {value!r} (from {source})") from error
