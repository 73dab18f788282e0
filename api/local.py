"""The whole stack on this machine: Redis, the API, workers and Flower, as supervised children.

Knows how the parts are started and in which order they stop. Knows no job and no route. The API's
socket is ours, so that nobody is turned away while the API starts or is started again.

    up:    Redis -> API, workers, Flower        down:  workers -> Flower, API -> Redis
"""

import os
import secrets
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

from ..jobs.settings import Settings
from .child import Child
from .client import Client
from .client_errors import PenstockError, StackFailed
from .ports import LOOPBACK, check_free, for_url, free_port, listen

if TYPE_CHECKING:
    from ..jobs.redis_server import RedisServer

_LOOK_S = 0.1
_PAUSE_S = 2.0
_HOPELESS_FAILURES = 2  # a part that dies so often before it was ever ready will not get better
_API_GRACE_S = 8.0


@dataclass(frozen=True, slots=True)
class StackOptions:
    """What `up` may choose beside the settings. A port of 0 means any free one.

    `host` is the API's; Flower can stop workers and stays on loopback.
    """

    host: str = "127.0.0.1"
    port: int = 0
    num_workers: int = 1  # per model
    flower_port: int | None = None  # None: no Flower


class LocalStack:
    """A running stack; `start` and `stop` come in pairs, and a `with` does both.

    Attributes:
        url: where the API listens.
        flower_url: where Flower listens, if it was asked for.
        settings: what every part was told.
    """

    def __init__(
        self,
        settings: Settings,
        options: StackOptions | None = None,
        *,
        on_trouble: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.options = options or StackOptions()
        self._on_trouble = on_trouble
        if self.options.flower_port:
            check_free(self.options.flower_port)
        self._listener = listen(self.options.host, self.options.port)
        port = self._listener.getsockname()[1]
        self.url = f"http://{for_url(self.options.host)}:{port}"
        self.flower_url: str | None = None
        self.settings = replace(settings, url=self.url, data=str(settings.data_dir))
        from ..jobs.api_keys import ApiKeys  # not for the light client

        if settings.api_key is None and ApiKeys(settings.keys_dir).have_been_made():
            self.settings = replace(self.settings, api_key=secrets.token_urlsafe(32))  # for us
        self.children: list[Child] = []
        self._up = threading.Event()
        self._down = threading.Event()
        self._error: BaseException | None = None
        # Daemonic only as a net: `stop` joins it, and the children die with this process anyway.
        self._keeper = threading.Thread(target=self._keep, name="local-stack", daemon=True)

    @property
    def log_dir(self) -> Path:
        """Where every part writes its log."""
        return self.settings.data_dir / "logs"

    def start(self) -> Self:
        """Start all parts, without waiting until they are ready.

        Raises:
            StackFailed: there is no Redis, or the data directory is in use by another stack.
        """
        self._keeper.start()
        self._up.wait()
        if self._error is not None:
            self.stop()
            raise StackFailed(str(self._error)) from self._error
        return self

    def wait_until_ready(
        self, timeout_s: float = 1800.0, *, give_up: Callable[[], bool] = lambda: False
    ) -> None:
        """Wait until a row has gone through the engine of every model, or `give_up` says so.

        Raises:
            StackFailed: a part keeps dying, or the time is up.
        """
        self._wait_for(lambda client: give_up() or self._is_ready(client), timeout_s)

    def wait_until_up(self, timeout_s: float = 120.0) -> None:
        """Wait until the API answers; no engine need be ready for that.

        Raises:
            StackFailed: a part keeps dying, or the time is up.
        """
        self._wait_for(_answers, timeout_s)

    def _wait_for(self, condition: Callable[[Client], bool], timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        with Client(self.url, self.settings.api_key, timeout_s=5.0, max_retries=0) as client:
            while not condition(client):
                for child in self.children:
                    _raise_if_hopeless(child)
                if time.monotonic() > deadline:
                    raise StackFailed(
                        f"the stack was not ready after {timeout_s:g} s; logs: {self.log_dir}"
                    )
                time.sleep(_LOOK_S)

    def stop(self) -> None:
        """Let workers finish rows within their grace, then stop everything. Twice does no harm."""
        self._down.set()
        if self._keeper.is_alive():
            self._keeper.join()
        self._listener.close()

    def kill(self) -> None:
        """Kill all parts at once; what has not landed is done again next time."""
        for child in self.children:
            child.kill()

    def __enter__(self) -> Self:
        """Start."""
        return self.start()

    def __exit__(self, *_: object) -> None:
        """Stop; an impatient second Ctrl-C kills."""
        try:
            self.stop()
        except KeyboardInterrupt:
            self.kill()
            self.stop()

    def _keep(self) -> None:
        """Start, watch and stop all parts in this one thread, to which the kernel ties them."""
        from ..jobs.redis_server import RedisServer, RedisUnavailable  # not for the light client

        redis = None
        try:
            if self.settings.redis_url is None:
                redis = RedisServer(self.settings.data_dir / "redis", users_url=self.url).start()
                self.settings = replace(self.settings, redis_url=redis.url)
            self.children = self._make_children()
            for child in self.children:
                child.start()
            self._up.set()
            while not self._down.wait(_LOOK_S):
                try:
                    self._look_after(redis)
                except (OSError, RedisUnavailable) as error:  # no memory, say; it may pass
                    self._on_trouble(f"cannot start a part again yet: {error}")
                    self._down.wait(_PAUSE_S)
        except BaseException as error:
            self._error = error
        finally:
            for child in self.children:
                if child.name.startswith("worker"):
                    child.ask_to_stop()  # all at once, so that their graces run side by side
            for child in reversed(self.children):
                child.stop()
            if redis is not None:
                redis.stop()
            self._up.set()

    def _look_after(self, redis: "RedisServer | None") -> None:
        """Start again what has ended."""
        if redis is not None and not redis.is_alive:
            self._on_trouble(f"Redis ended; starting it again (log: {redis.log_path})")
            redis.start()
        for child in self.children:
            trouble = child.look_after()
            if trouble is not None:
                self._on_trouble(trouble)

    def _make_children(self) -> list[Child]:
        command = [sys.executable, "-P", "-m", "penstock.api.cli"]
        listener = self._listener.fileno()
        flower_port = self.options.flower_port
        if flower_port is not None:
            flower_port = flower_port or free_port()
            self.flower_url = f"http://{LOOPBACK}:{flower_port}"
            self.settings = replace(self.settings, flower_url=self.flower_url)
        environ = _child_environ(self.settings)
        children = [
            Child(
                "api",
                [*command, "api", "--fd", str(listener)],
                environ=environ,
                log_path=self.log_dir / "api.log",
                pass_fds=[listener],
                grace_s=_API_GRACE_S,
            )
        ]
        if flower_port is not None:
            children.append(
                Child(
                    "flower",
                    [*command, "flower", "--host", LOOPBACK, "--port", str(flower_port)],
                    environ=environ,
                    log_path=self.log_dir / "flower.log",
                )
            )
        for model in self.settings.models:
            for number in range(self.options.num_workers):
                name = f"worker-{Path(model).name}-{number}"
                children.append(
                    Child(
                        name,
                        [*command, "worker", "--model", model],
                        environ=environ,
                        log_path=self.log_dir / f"{name}.log",
                        grace_s=self.settings.grace_s + 5.0,
                        hopeless_status=os.EX_UNAVAILABLE,  # a model that can never be served
                    )
                )
        return children

    def _is_ready(self, client: Client) -> bool:
        try:
            excuses = [worker.get("not_ready") for worker in client.workers.list()]
        except PenstockError:
            return False
        if any(excuses):
            raise StackFailed(next(filter(None, excuses)))
        try:
            return len(client.models.ready()) >= len(set(self.settings.models))
        except PenstockError:
            return False


def _raise_if_hopeless(child: Child) -> None:
    if child.is_hopeless or child.num_failures >= _HOPELESS_FAILURES:
        reason = child.last_words() or "it says nothing"
        what = "" if child.is_hopeless else f"{child.name} does not start: "
        raise StackFailed(f"{what}{reason} (log: {child.log_path})")


def _answers(client: Client) -> bool:
    try:
        client.workers.list()
    except PenstockError:
        return False
    return True


def _child_environ(settings: Settings) -> dict[str, str]:
    """Tell a child the settings in force, and no variable that a flag has overruled."""
    ours = {item.metadata["env"] for item in fields(Settings)} | {"PENSTOCK_CONFIG"}
    inherited = {name: value for name, value in os.environ.items() if name not in ours}
    return inherited | settings.to_environ()
