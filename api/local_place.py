"""Where `local://` keeps its data, and what it serves. Knows no server and starts none."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import parse_qsl, urlsplit

from ..jobs.settings import InvalidSetting, Settings
from .client_errors import PenstockError

SCHEME = "local"

_EXAMPLE = "local://?data=DIR&model=MODEL"


@dataclass(frozen=True, slots=True)
class LocalPlace:
    """A data directory of this machine and the models that are to be served over it.

    `models` is None where nobody has said: whatever a stack that runs there serves, else those of
    the settings.
    """

    data: Path
    models: tuple[str, ...] | None = None

    @classmethod
    def read(cls, url: str, *, data: str | Path | None = None, model: str | None = None) -> Self:
        """Read `local://?data=…&model=…`; arguments come before what the URL says.

        Raises:
            PenstockError: the URL says what cannot be.
        """
        parts = urlsplit(url)
        said = dict(parse_qsl(parts.query, keep_blank_values=True))
        if parts.netloc or parts.path.strip("/") or parts.fragment or set(said) - {"data", "model"}:
            raise PenstockError(f"a local address looks like {_EXAMPLE}, got {url!r}")
        wanted = model or said.get("model") or None
        try:
            settings = Settings.load(
                data=str(data or said.get("data") or "") or None, models=wanted
            )
        except InvalidSetting as error:
            raise PenstockError(str(error)) from error
        return cls(settings.data_dir, None if wanted is None else settings.models)
