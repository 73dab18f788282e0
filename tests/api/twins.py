"""The client without asyncio, written from the one for asyncio: the same words, without `await`.

`python -m tests.api.twins` writes the files again: look at the difference, and commit it with what
has caused it. So each method is thought out, documented and mended once, and what people read and
step through is a file like any other. What differs by more than waiting, as a lock does, is written
twice, elsewhere, under two names of which one is `async`.
"""

import re
import subprocess
import sys
from pathlib import Path

API = Path(__file__).parents[2] / "api"

TWINS = (
    "async_chat_stream",
    "async_client",
    "async_job",
    "async_workflow_client",
    "async_workflow_run",
)

_JOINED = "I,SIM117,UP028"  # imports, one `with` in another, a loop that only yields
_WORDS = (  # in this order
    (r",? for asyncio\b", ""),
    (r"\n *It may be an asynchronous one\.", ""),
    (r"\ban `async ", "a `"),
    (r"^import asyncio\n", ""),
    (r"\bawait asyncio\.to_thread\(([\w.]+), ", r"\1("),
    (r"\bawait ", ""),
    (r"\[(\w+) async for \1 in (.+)\]", r"list(\2)"),
    (r"\basync (def|for|with)\b", r"\1"),
    (r"\bAsync(?=[A-Z])", ""),
    (r"\basync_(?=\w)|_async\b|_async(?=_)", ""),
    (r"\b__a(?=enter__|exit__|iter__)", "__"),
    (r"\baclose\b", "close"),
    (r"^`\w+` is the same without asyncio, and written from this", "Written from `{name}`"),
)


def twin_of(name: str) -> str:
    """Write the twin of a file."""
    text = (API / f"{name}.py").read_text(encoding="utf-8")
    for pattern, word in _WORDS:
        text = re.sub(pattern, word.replace("{name}", name), text, flags=re.MULTILINE)
    return _tidied(text)


def path_of(name: str) -> Path:
    """Tell where the twin of a file lies."""
    return API / f"{name.removeprefix('async_')}.py"


def _tidied(text: str) -> str:
    """Sort the imports, join what `async` had held apart, and fold the lines, as everywhere."""
    fixes = ("--fix", "--unsafe-fixes", "--exit-zero", f"--select={_JOINED}")
    return _through_ruff(_through_ruff(text, "check", *fixes), "format")


def _through_ruff(text: str, *arguments: str) -> str:
    command = [sys.executable, "-m", "ruff", *arguments, "--quiet", "--stdin-filename=api/twin.py"]
    done = subprocess.run(
        [*command, "-"], input=text, capture_output=True, text=True, check=True, cwd=API.parent
    )
    return done.stdout


def main() -> None:
    """Write all twins."""
    for name in TWINS:
        path_of(name).write_text(twin_of(name), encoding="utf-8")


if __name__ == "__main__":
    main()
