"""What `doctor` says of the settings: those in force, bad values, and variables nobody reads.

A bad value keeps nobody from looking at the rest: it is told, and the default stands in for it.
"""

import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from ..jobs.redis_url import without_password
from ..jobs.settings import InvalidSetting, Settings
from .findings import Finding, Verdict

_SECRETS = frozenset({"api_key"})
_PREFIX = "PENSTOCK_"
_CONFIG = "PENSTOCK_CONFIG"
_OF_KUBERNETES = re.compile(r"PENSTOCK_(\w+_)?(SERVICE|PORT)(_\w+)?")  # told of each Service
_READ_BY_OTHERS = frozenset({_CONFIG, "PENSTOCK_REDIS_PASSWORD"})  # compose.yaml has the latter


@dataclass(frozen=True, slots=True)
class ReadSettings:
    """The settings as far as they can be read, where each comes from, and what could not be."""

    settings: Settings
    sources: dict[str, str]
    troubles: tuple[Finding, ...]

    def findings(self) -> Iterator[Finding]:
        """Tell every setting and where it comes from; secrets are masked."""
        for item in fields(self.settings):
            value = getattr(self.settings, item.name)
            if item.name in _SECRETS and value is not None:
                value = "***"
            text = ", ".join(value) if isinstance(value, tuple) else str(value)
            if item.name == "redis_url":
                text = without_password(text)
            yield Finding("setting", item.name, text, source=self.sources[item.name])
        yield from self.troubles


def read_settings(
    config: Path | None, environ: Mapping[str, str], **flags: str | None
) -> ReadSettings:
    """Read all sources, without the variables or the file that cannot be read.

    Raises:
        InvalidSetting: a flag cannot be meant.
    """
    troubles = list(unknown_variables(environ))
    sound = dict(environ)
    for item in fields(Settings):
        variable = item.metadata["env"]
        alone = {variable: environ.get(variable, "")}
        trouble = _trouble(item.name, None, alone, f"give {variable} another value")
        if trouble is not None:
            troubles.append(trouble)
            del sound[variable]
    path = config or (Path(sound[_CONFIG]) if sound.get(_CONFIG) else None)
    sound.pop(_CONFIG, None)
    trouble = _trouble("config", path, {}, "mend the file; nothing of it is in force here")
    if trouble is not None:
        troubles.append(trouble)
        path = None
    settings, sources = Settings.load_with_sources(toml=path, environ=sound, **flags)
    return ReadSettings(settings, sources, tuple(troubles))


def unknown_variables(environ: Mapping[str, str]) -> Iterator[Finding]:
    """Warn of variables that look like ours and are read by nobody: most are misspelt."""
    known = {item.metadata["env"] for item in fields(Settings)} | _READ_BY_OTHERS
    for name in sorted(environ):
        is_ours = name.startswith(_PREFIX) and not _OF_KUBERNETES.fullmatch(name)
        if is_ours and name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            advice = f"is {near[0]} meant?" if near else "take it away, or see the settings above"
            yield Finding("setting", name, "nobody reads this variable", Verdict.WARNING, advice)


def _trouble(
    name: str, toml: Path | None, environ: Mapping[str, Any], advice: str
) -> Finding | None:
    try:
        Settings.load(toml=toml, environ=environ)
    except InvalidSetting as error:
        return Finding("setting", name, str(error), Verdict.FAILURE, advice)
    return None
