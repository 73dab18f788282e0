"""What a command line says about a job's task, the same to run, submit and validate.

Knows the options and how their texts are read; what they come to is the server's to know.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .cli_options import (
    Format,
    IdColumn,
    Model,
    Name,
    Prompt,
    Raw,
    Sampling,
    Schema,
    System,
    UsageProblem,
    sampling_of,
)
from .job_calls import SubmitOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskFlags:
    """The options, as they were typed."""

    prompt: Prompt = None
    model: Model = None
    system: System = None
    sampling: Sampling = None
    schema: Schema = None
    id_column: IdColumn = None
    name: Name = None
    raw: Raw = False
    file_format: Format = None

    def options(self) -> SubmitOptions:
        """Give the options of `jobs.submit`.

        Raises:
            UsageProblem: a file cannot be read, or something is missing.
        """
        options = SubmitOptions(
            sampling=sampling_of(self.sampling) or None,
            model=self.model,
            id=self.id_column,
            name=self.name,
            format=self.file_format,
        )
        if self.raw:
            options["endpoint"] = "/v1/completions"
        if self.schema is not None:
            options["schema"] = _schema_in(self.schema)
        prompt, system = text_or_file(self.prompt), text_or_file(self.system)
        if system is None:
            options["prompt"] = prompt
        elif prompt is None:
            raise UsageProblem("--system needs a --prompt beside it")
        else:
            options["messages"] = [
                {"role": "system", "content": system},
                {"role": "user", "content": prompt},
            ]
        return options


def text_or_file(text: str | None) -> str | None:
    """Read `@FILE`; any other text stands for itself."""
    if text is None or not text.startswith("@"):
        return text
    try:
        return Path(text[1:]).read_text(encoding="utf-8")
    except OSError as error:
        raise UsageProblem(f"cannot read {text[1:]}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageProblem(f"cannot read {text[1:]}: it is not UTF-8") from error


def _schema_in(path: Path) -> dict[str, Any]:
    try:
        schema = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageProblem(f"cannot read a JSON Schema in {path}: {error}") from error
    if not isinstance(schema, dict):
        raise UsageProblem(f"{path} holds no JSON Schema, which is an object")
    return schema
