"""The command `penstock`: which verbs there are, and how their troubles look to a person.

Loads no torch, Redis, Celery or pyarrow; a verb that needs one of them loads it when it runs.
"""

import sys
from typing import Annotated

import typer

from .. import __version__
from ..jobs.settings import InvalidSetting
from . import (
    cli_chat,
    cli_completion,
    cli_diff,
    cli_jobs,
    cli_keys,
    cli_plan,
    cli_results,
    cli_run,
    cli_serve,
    cli_steering,
    cli_submit,
    cli_top,
    cli_validate,
    cli_watch,
    cli_workflow,
    demo,
    doctor,
)
from .cli_command import draw_as_typed
from .cli_examples import example
from .cli_exit import EXIT_TROUBLE, EXIT_UNREAD, EXIT_USAGE
from .cli_options import UsageProblem
from .client_errors import (
    BadRequest,
    Conflict,
    InvalidAddress,
    InvalidInput,
    PenstockError,
    ServerUnreachable,
    Unauthorized,
)

_CANNOT_BE_MEANT = (  # whatever the server does, it will not take this
    BadRequest,
    Conflict,
    InvalidAddress,
    InvalidInput,
    InvalidSetting,
    UsageProblem,
)
_SERVE = "Serve"
_JOBS = "Bulk jobs"
_ASK = "Ask and look"


def make_app() -> typer.Typer:
    """Put the verbs together."""
    app = typer.Typer(
        name="penstock",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        epilog="To see it at work:\n$ penstock demo",
    )
    app.callback()(_options)
    for panel, verbs in (
        (_SERVE, (cli_serve.up, demo.demo, cli_serve.api, cli_serve.worker, cli_serve.flower)),
        (
            _JOBS,
            (
                cli_run.run,
                cli_submit.submit,
                cli_validate.validate,
                cli_watch.watch,
                cli_jobs.jobs,
                cli_jobs.show,
                cli_results.results,
                cli_results.errors,
                cli_diff.diff,
                cli_steering.pause,
                cli_steering.resume,
                cli_steering.priority,
                cli_steering.update,
                cli_steering.retry,
                cli_steering.cancel,
                cli_steering.delete,
            ),
        ),
        (
            _ASK,
            (
                cli_top.top,
                cli_chat.chat,
                cli_chat.models,
                cli_plan.plan,
                doctor.doctor,
                cli_completion.completion,
            ),
        ),
    ):
        for verb in verbs:
            app.command(
                rich_help_panel=panel,
                epilog=example(verb.__name__),
                # A number below 0 is no option.
                context_settings={"ignore_unknown_options": verb is cli_steering.priority},
            )(verb)
    app.add_typer(cli_keys.keys, name="keys", rich_help_panel=_SERVE)
    app.add_typer(cli_workflow.workflow_verbs(), name="workflow", rich_help_panel=_JOBS)
    return draw_as_typed(app)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"penstock {__version__}")
        raise typer.Exit


def main() -> None:
    """Run a verb; a trouble that is no bug becomes one line, not a traceback."""
    cli_completion.prepare_completion()
    try:
        make_app()(prog_name="penstock")
    except SystemExit as end:
        if isinstance(end.__context__, BrokenPipeError):  # of which click and rich make a 1
            end.code = EXIT_UNREAD
        raise
    except _CANNOT_BE_MEANT as error:
        _complain(error, EXIT_USAGE)
    except ServerUnreachable as error:
        _complain(f"{error}. Is it running? `penstock up` starts one here", EXIT_TROUBLE)
    except Unauthorized as error:  # whose own words are for who writes requests
        where = "" if error.request_id is None else f", request {error.request_id}"
        _complain(
            "the server knows no such key: give one with --api-key or PENSTOCK_API_KEY "
            f"(HTTP 401{where})",
            EXIT_TROUBLE,
        )
    except PenstockError as error:
        _complain(error, EXIT_TROUBLE)
    except ModuleNotFoundError as error:
        root = (error.name or "").partition(".")[0]
        if root in ("", "penstock"):
            raise
        _complain(
            f"this verb needs the package {root}, which is not installed: "
            "pip install 'penstock[all]'",
            EXIT_TROUBLE,
        )


def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            is_eager=True,
            callback=_print_version,
            help="Print the version and exit.",
        ),
    ] = False,
) -> None:
    """A task queue for high-volume LLM generation."""


def _complain(error: object, code: int) -> None:
    print(f"penstock: {error}", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
