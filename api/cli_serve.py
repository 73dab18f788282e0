"""The verbs that serve: up, and its parts api, worker and flower.

Knows how to start each part, and loads what a part needs (uvicorn, Celery, torch) only then.
"""

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..jobs.settings import Settings
from .cli_options import Config, Data, Models, Set, UsageProblem, settings_of
from .cli_output import Printer
from .client_errors import PenstockError
from .stop_signals import stop_event

if TYPE_CHECKING:
    from .local import LocalStack

_API_PORT = 8100
_FLOWER_PORT = 5555
_LAST_PORT = 65535
API_GRACE_S = 5
_LOOPBACK = ("127.0.0.1", "localhost", "::1")

Host = Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 lets other machines in.")]
NoAuth = Annotated[
    bool, typer.Option("--no-auth", help="Let other machines in though there is no key to ask for.")
]


def up(
    model: Models = None,
    host: Host = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=_LAST_PORT, help="The API's port; 0 takes any.")
    ] = _API_PORT,
    workers: Annotated[int, typer.Option(min=1, help="Workers per model.")] = 1,
    flower: Annotated[bool, typer.Option(help="Start Flower, a dashboard of workers.")] = True,
    flower_port: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=_LAST_PORT,
            help="Flower's port; 0 takes any.",
            show_default=f"{_FLOWER_PORT}, or any if that is taken",
        ),
    ] = None,
    no_auth: NoAuth = False,
    data: Data = None,
    config: Config = None,
    settings: Set = None,
) -> None:
    """Run the whole stack on this machine until Ctrl-C."""
    from .local import LocalStack, StackOptions
    from .ports import can_listen

    printer = Printer()
    in_force = settings_of(config, settings, data=data, models=model)
    _check_is_guarded(in_force, host, no_auth)
    if flower_port is None:
        flower_port = _FLOWER_PORT if can_listen(_FLOWER_PORT) else 0
    options = StackOptions(host, port, workers, flower_port if flower else None)
    stopped = stop_event()
    with LocalStack(in_force, options, on_trouble=printer.note) as stack:
        printer.note(f"starting {', '.join(in_force.models)}; logs in {stack.log_dir}")
        stack.wait_until_ready(give_up=stopped.is_set)
        if not stopped.is_set():
            _print_welcome(printer, stack)
        while not stopped.wait(0.5):
            pass  # a wait without end would not let signals through on every platform
        printer.note("stopping; running rows may finish. Ctrl-C again kills")
        signal.signal(signal.SIGINT, signal.default_int_handler)


def api(
    host: Host = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=_LAST_PORT, help="Port to listen on.")
    ] = _API_PORT,
    fd: Annotated[int | None, typer.Option(hidden=True, help="A socket that listens.")] = None,
    no_auth: NoAuth = False,
    config: Config = None,
    settings: Set = None,
) -> None:
    """Run the HTTP API alone. It needs PENSTOCK_REDIS_URL and the directory of jobs."""
    import uvicorn

    from ..jobs.redis_client import connect
    from .app import create_app
    from .http_protocol import PatientProtocol
    from .open_files import raise_limit

    in_force = settings_of(config, settings)
    if fd is None:  # whoever opened the socket has asked the same
        _check_is_guarded(in_force, host, no_auth)
    with _redis_is_named():
        connect(in_force).close()  # it connects when first used; a Redis that is away may come
    raise_limit()
    server = uvicorn.Server(
        uvicorn.Config(
            create_app(in_force, host=host),
            host=host,
            port=port,
            access_log=False,
            http=PatientProtocol,
            timeout_graceful_shutdown=API_GRACE_S,
        )
    )
    # Not uvicorn's own `fd`, which takes every socket for a Unix one.
    server.run(sockets=None if fd is None else [socket.socket(fileno=fd)])
    if not server.started:
        raise PenstockError("the API could not start; its log says why")


def worker(
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="Hugging Face id or directory.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="A name of its own.")] = None,
    health: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT", help="Answer /healthz and /readyz there, for who restarts it."
        ),
    ] = None,
    config: Config = None,
    settings: Set = None,
) -> None:
    """Run one worker alone. It needs PENSTOCK_REDIS_URL and the directory of jobs."""
    from ..jobs.worker import run_worker

    in_force = settings_of(config, settings)
    if model is None and len(in_force.models) != 1:
        configured = ", ".join(in_force.models) or "none"
        raise UsageProblem(
            f"a worker serves one model: name it with --model (configured: {configured})"
        )
    with _redis_is_named():
        code = run_worker(
            in_force, model or in_force.models[0], name, health=_host_and_port(health)
        )
    raise typer.Exit(code)


def flower(
    host: Host = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=_LAST_PORT, help="Port to listen on.")
    ] = _FLOWER_PORT,
    unprotected: Annotated[
        bool, typer.Option("--unprotected", help="Let other machines in without a password.")
    ] = False,
    config: Config = None,
) -> None:
    """Run Flower alone, to look and not to touch. FLOWER_BASIC_AUTH=user:password protects it."""
    import flower.urls

    from ..jobs.app import create_app
    from .flower_pages import LinkedTemplates, served_pages

    if not os.environ.get("FLOWER_BASIC_AUTH"):
        os.environ.pop("FLOWER_BASIC_AUTH", None)  # Flower would ask for an empty password
    if not (host in _LOOPBACK or unprotected or os.environ.get("FLOWER_BASIC_AUTH")):
        raise UsageProblem(
            f"Flower on {host} would let anybody in: set FLOWER_BASIC_AUTH=user:password, "
            "or say --unprotected behind a proxy that asks for one"
        )
    with _redis_is_named():
        in_force = Settings.load(toml=config)
        celery = create_app(in_force)
    pages_url = in_force.pages_url or in_force.url
    flower.urls.handlers[:] = served_pages(flower.urls.handlers)  # Flower takes both from there
    templates = str(flower.urls.settings["template_path"])
    flower.urls.settings["template_loader"] = LinkedTemplates(templates, pages_url)
    config_path = Path(__file__).with_name("flower_config.py")
    celery.start(
        ["--quiet", "flower", f"--conf={config_path}", f"--address={host}", f"--port={port}"]
    )


def _host_and_port(text: str | None) -> tuple[str, int] | None:
    """Read HOST:PORT."""
    if text is None:
        return None
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65_535:
        raise UsageProblem(f"--health takes HOST:PORT, as in 127.0.0.1:8101, got {text!r}")
    return host, int(port)


def _check_is_guarded(settings: Settings, host: str, no_auth: bool) -> None:
    """Refuse to let other machines in where no key is asked for, unless that is what is wanted."""
    from ..jobs.api_keys import ApiKeys

    if host in _LOOPBACK or no_auth or settings.api_key is not None:
        return
    if not ApiKeys(settings.keys_dir).have_been_made():
        raise UsageProblem(
            f"the API on {host} would let anybody in: make a key with `penstock keys create`, set "
            "PENSTOCK_API_KEY, or say --no-auth where something else keeps strangers out"
        )


@contextmanager
def _redis_is_named() -> Iterator[None]:
    """Turn "the settings name no Redis" into a trouble that is told in one line."""
    from ..jobs.redis_server import RedisUnavailable

    try:
        yield
    except RedisUnavailable as error:
        raise PenstockError(str(error)) from error


def _print_welcome(printer: Printer, stack: "LocalStack") -> None:
    settings = stack.settings
    printer.facts(
        [
            ("API", stack.url),
            ("pages", f"{stack.url}/ui"),
            ("OpenAI base URL", f"{stack.url}/v1"),
            ("API docs", f"{stack.url}/docs"),
            ("Flower", stack.flower_url or "not started"),
            ("models", ", ".join(settings.models)),
            ("data", settings.data),
            ("logs", stack.log_dir),
        ]
    )
    at = "" if stack.url == Settings().url else f" --url {stack.url}"
    model = settings.models[0]
    key = "" if settings.api_key is None else '-H "authorization: Bearer $PENSTOCK_API_KEY" '
    printer.out.print(
        f"""
Try, from another terminal:

  penstock chat 'Add 17 and 25.'{at}
  penstock submit rows.jsonl --prompt '{{{{ row.text }}}}' --watch{at}
  penstock jobs{at}
  curl {stack.url}/v1/chat/completions -H 'content-type: application/json' \\
    {key}-d '{{"model": "{model}", "messages": [{{"role": "user", "content": "Hello"}}]}}'

Ctrl-C stops it; jobs go on at the next start.""",
        markup=False,
        soft_wrap=True,
    )
