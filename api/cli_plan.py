"""The verb `plan`: how long a job takes on given hardware, and what it costs. Asks no server."""

from typing import Annotated

import typer

from .cli_options import Output, UsageProblem
from .cli_output import Printer
from .hardware import NumberType, known_gpus
from .planner import Budget, plan as plan_job
from .planner_json import hardware_as_json, plan_as_json
from .planner_load import Work
from .planner_output import print_hardware, print_plan

_LIST = "list"
_CACHE_TYPES = ("auto", "fp8")


def plan(
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help="Directory, popular model or Hugging Face id."),
    ] = None,
    gpu: Annotated[
        str, typer.Option(help="A GPU's name; list shows them; cpu is this machine.")
    ] = "H200",
    rows: Annotated[int, typer.Option(help="Rows of the job.")] = 1_000_000,
    prompt_tokens: Annotated[int, typer.Option("--in", help="Tokens of each prompt.")] = 512,
    answer_tokens: Annotated[int, typer.Option("--out", help="Tokens of each answer.")] = 256,
    shared_tokens: Annotated[
        int, typer.Option("--prefix-shared", help="Tokens that all prompts begin with.")
    ] = 0,
    dtype: Annotated[
        NumberType | None,
        typer.Option(
            metavar="TYPE",
            help="What layers are kept in: fp32, bf16, fp16, fp8 or int8.",
            show_default="the checkpoint's",
        ),
    ] = None,
    kv_dtype: Annotated[
        str, typer.Option(metavar="auto|fp8", help="What keys and values are kept in.")
    ] = "auto",
    gpus: Annotated[int, typer.Option(help="Devices, each with the whole model.")] = 1,
    batch: Annotated[
        int | None,
        typer.Option(help="Rows at once on each device.", show_default="256, on a CPU 64"),
    ] = None,
    ttft_ms: Annotated[
        float | None, typer.Option(help="Keep the time to a chat's first token below this.")
    ] = None,
    itl_ms: Annotated[
        float | None, typer.Option(help="Keep the time between two tokens below this.")
    ] = None,
    price_per_hour: Annotated[
        float | None, typer.Option(help="Of one device, in any currency.")
    ] = None,
    bandwidth: Annotated[
        float | None,
        typer.Option(
            metavar="GB/S", help="Memory's speed, for --gpu cpu.", show_default="measured"
        ),
    ] = None,
    output: Output = None,
) -> None:
    """Foretell a job's time, cost and latency from the model's and the hardware's figures.

    Reads the model's config.json alone. Times are rooflines, and what engines reached of them.
    """
    printer = Printer(output)
    if gpu == _LIST:
        _list(printer)
        return
    if model is None:
        raise UsageProblem("--model is missing: name a directory, a popular model or a hub id")
    if kv_dtype not in _CACHE_TYPES:
        raise UsageProblem(f"--kv-dtype must be {' or '.join(_CACHE_TYPES)}, got {kv_dtype!r}")
    _require_whole(
        {
            "--rows": rows,
            "--in": prompt_tokens,
            "--out": answer_tokens,
            "--gpus": gpus,
            "--batch": batch,
        }
    )
    if price_per_hour is not None and not price_per_hour >= 0:
        raise UsageProblem(f"--price-per-hour must be at least 0, got {price_per_hour:g}")
    _require_positive({"--ttft-ms": ttft_ms, "--itl-ms": itl_ms, "--bandwidth": bandwidth})
    try:
        found = plan_job(
            model,
            gpu,
            Work(
                num_rows=rows,
                prompt_tokens=prompt_tokens,
                answer_tokens=answer_tokens,
                shared_tokens=shared_tokens,
            ),
            dtype=dtype,
            fp8_cache=kv_dtype == "fp8",
            num_devices=gpus,
            batch=batch,
            budget=Budget(ttft_s=_seconds(ttft_ms), itl_s=_seconds(itl_ms)),
            price_per_hour=price_per_hour,
            cpu_bytes_per_s=None if bandwidth is None else bandwidth * 1e9,
        )
    except ValueError as error:  # all that the planner refuses; each says what to do
        raise UsageProblem(str(error)) from error
    if printer.is_json:
        printer.json_line(plan_as_json(found))
    else:
        print_plan(printer, found)


def _list(printer: Printer) -> None:
    if not printer.is_json:
        print_hardware(printer, known_gpus())
        return
    for gpu in known_gpus():
        printer.json_line(hardware_as_json(gpu))


def _seconds(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1e3


def _require_positive(options: dict[str, float | None]) -> None:
    for name, value in options.items():
        if value is not None and not value > 0:
            raise UsageProblem(f"{name} must be above 0, got {value:g}")


def _require_whole(options: dict[str, int | None]) -> None:
    for name, value in options.items():
        if value is not None and value < 1:
            raise UsageProblem(f"{name} must be at least 1, got {value}")
