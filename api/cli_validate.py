"""The verb validate: what submitting these rows would come to. Makes nothing anywhere.

Where no server runs, it looks at the rows itself, if the packages for that are installed.
"""

from typing import Annotated, Any

import typer

from ..jobs.settings import Settings
from .cli_exit import EXIT_WITH_ERRORS
from .cli_flags import spread
from .cli_input import input_file
from .cli_options import (
    ApiKey,
    Deadline,
    Here,
    Input,
    MaxErrorRate,
    Output,
    Priority,
    Url,
    UsageProblem,
    number_or_text,
    settings_and_sources,
)
from .cli_output import Printer
from .cli_server import answers
from .cli_task import TaskFlags
from .client import Client
from .client_errors import InvalidInput, PenstockError
from .home_path import at_home
from .job_calls import SubmitOptions, job_body
from .payloads import is_remote
from .validation_calls import shown_progress
from .validation_output import print_validation
from .validation_record import JobValidation

_ALONE = "no server is asked: earlier jobs and the speed of workers are not known here"


@spread
def validate(
    rows: Input,
    task: TaskFlags,
    priority: Priority = None,
    deadline: Deadline = None,
    max_error_rate: MaxErrorRate = None,
    out: Annotated[str | None, typer.Option(help="As submit takes it.")] = None,
    here: Here = False,
    url: Url = None,
    api_key: ApiKey = None,
    output: Output = None,
) -> None:
    """Look at rows as submit takes them, and make nothing: bad lines, duplicates, tokens, time.

    Exits with 4 where some rows would come to nothing. Without a server it looks by itself.
    """
    options = task.options() | SubmitOptions(
        priority=priority,
        deadline=number_or_text(deadline),
        max_error_rate=max_error_rate,
        output=out,
    )
    validate_rows(Printer(output), rows, options, url, api_key, here=here)


def validate_rows(
    printer: Printer,
    rows: str,
    options: SubmitOptions,
    url: str | None,
    api_key: str | None,
    *,
    here: bool = False,
) -> None:
    """Look at rows, on the server or here, and print what was found.

    Raises:
        typer.Exit: some rows would come to nothing.
    """
    settings, sources = settings_and_sources(None, None, url=url, api_key=api_key)
    with input_file(rows, options.get("format")) as path:
        if here or (sources["url"] == "default" and not answers(settings)):
            found = _found_here(printer, settings, path, options)
        else:
            with Client(settings.url, settings.api_key) as client:
                found = client.jobs.validate(path, progress=True, **options)
    print_validation(printer, found)
    if not found.ok:
        raise typer.Exit(EXIT_WITH_ERRORS)


def _found_here(
    printer: Printer, settings: Settings, rows: str, options: SubmitOptions
) -> JobValidation:
    """Look at rows in a process of our own.

    Raises:
        UsageProblem: no row could be made a request.
        InvalidInput: the rows cannot be read.
    """
    from ..jobs.dry_run_process import DryRunFailed, DryRunProcess  # not for the light client
    from ..jobs.errors import InvalidJob
    from ..jobs.inputs import UnreadableInput
    from ..jobs.model import InvalidSampling
    from ..jobs.sources import PathSource
    from .validation_object import validation_object

    printer.note("no server is asked: looking at the rows here")
    source = PathSource(rows if is_remote(rows) else at_home(rows))
    try:
        request = _request(settings, job_body(options))
        with shown_progress(True) as on_progress:
            process = DryRunProcess(settings, source, request)
            report = process.run(lambda report: on_progress(report.rows, report.share_read))
    except (InvalidJob, InvalidSampling) as error:
        raise UsageProblem(str(error)) from error
    except UnreadableInput as error:
        raise InvalidInput(str(error)) from error
    except DryRunFailed as error:
        raise PenstockError(str(error)) from error
    said = validation_object(report, request.task.model)
    return JobValidation.from_json({**said, "rests_on": [_ALONE]})


def _request(settings: Settings, body: dict[str, Any]) -> Any:
    """Make of a body what the server would make of it, as far as the command line can say it."""
    from ..jobs.model import Message, TaskSpec
    from ..jobs.submit_request import SubmitRequest

    model = body.get("model")
    if model is None and len(settings.models) != 1:
        raise UsageProblem(f"name a model with --model, one of {', '.join(settings.models)}")
    messages = body.get("messages")
    task = TaskSpec(
        model=model or settings.models[0],
        prompt=body.get("prompt"),
        messages=None
        if messages is None
        else tuple(Message(each["role"], each["content"]) for each in messages),
        endpoint=body.get("endpoint"),
        sampling=body.get("sampling") or {},
        response_format=body.get("response_format"),
    )
    return SubmitRequest(
        task=task,
        id_column=body.get("id"),
        format=body.get("format"),
        max_error_rate=body.get("max_error_rate"),
    )
