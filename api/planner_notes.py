"""What a plan says in words: settings that make it so, what to know about it, what would fit."""

from .hardware import Hardware, NumberType, Support, known_gpus
from .planner_load import BatchCost, Work
from .planner_memory import GIB, share_out
from .planner_roofline import Numbers, Roofline
from .planner_shape import ModelShape

_SHORT_S = 2e-3  # where the host's work shows

_DTYPES: dict[NumberType | None, str] = {
    NumberType.FP32: "float32",
    NumberType.BF16: "bfloat16",
    NumberType.FP16: "float16",
}


def settings_for(
    hardware: Hardware, batch: int, dtype: NumberType | None, fp8_cache: bool
) -> dict[str, str]:
    """Return the variables that make workers do so; none for what they cannot do."""
    settings = {"PENSTOCK_MAX_NUM_SEQS": str(batch)}
    if dtype in _DTYPES:
        settings["PENSTOCK_DTYPE"] = _DTYPES[dtype]
    if dtype is NumberType.INT8 and not hardware.is_gpu:
        settings["PENSTOCK_QUANTIZATION"] = "int8"
    if fp8_cache:
        settings["PENSTOCK_KV_CACHE_DTYPE"] = "fp8_e4m3"
    return settings


def notes_on(
    hardware: Hardware, shape: ModelShape, numbers: Numbers, chosen: BatchCost, work: Work
) -> list[str]:
    """Say what the figures leave unsaid."""
    notes: list[str] = []
    if hardware.support is not Support.COMPILED:
        notes.append(f"our kernels on {hardware.name}: {hardware.support}")
    if hardware.is_gpu and numbers.layers.num_bytes == 1:
        notes.append(f"layers in {numbers.layers} are not there yet on GPUs: what they would give")
    if chosen.decode.seconds < _SHORT_S:
        notes.append(
            f"a decode step of {chosen.decode.seconds * 1e3:.2g} ms is too short for a roofline: "
            "launching kernels and scheduling, which it leaves out, take 1 to 3 ms"
        )
    if shape.has_experts:
        notes.append(
            f"a decode step of {chosen.batch} rows reads {chosen.decode.weight_bytes / 1e9:.1f} GB "
            "of weights, if experts are chosen evenly"
        )
    if any(shape.windows):
        seen = shape.seen_between(work.prompt_tokens, work.row_tokens) / work.answer_tokens
        notes.append(
            f"a row reads {seen:,.0f} cached tokens in a layer, averaged over layers with windows "
            "and without; all of its tokens stay in the cache all the same"
        )
    return notes


def advice(hardware: Hardware, roofline: Roofline, work: Work, step_tokens: int) -> str:
    """Say by how much not even one row fits, and what would help."""
    room = share_out(hardware, roofline, 1, step_tokens)
    missing = room.missing_bytes(work.row_tokens)
    ideas = [f"a GPU with more memory ({_larger(roofline, work, step_tokens)})"]
    if roofline.numbers.layers.num_bytes > 1:
        saved = roofline.shape.layer_weights * (roofline.numbers.layers.num_bytes - 1)
        enough = "enough" if saved >= missing else "not enough"
        where = "; not there yet on GPUs" if hardware.is_gpu else "; --dtype int8"
        ideas.append(f"layers in 8 bits, which save {saved / GIB:.1f} GiB ({enough}{where})")
    return (
        f"{roofline.shape.name} does not fit on {hardware.name}: weights take "
        f"{room.weight_bytes / GIB:.1f} of {room.total_bytes / GIB:.1f} GiB, and with one row of "
        f"{work.row_tokens:,} tokens {missing / GIB:.1f} GiB are missing. What would help: "
        f"{'; '.join(ideas)}. Several GPUs for one model are not there yet: they share the rows, "
        "and each holds the whole model"
    )


def _larger(roofline: Roofline, work: Work, step_tokens: int) -> str:
    """Name the GPUs that one row fits on."""
    names = [
        gpu.name
        for gpu in known_gpus()
        if gpu.support is not Support.NONE
        and share_out(gpu, roofline, 1, step_tokens).max_rows(work.row_tokens)
    ]
    return ", ".join(names) or "none of those listed is large enough"
