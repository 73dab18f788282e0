"""What GPUs can hold, read and multiply, as their makers say. Knows no model and no engine.

Bandwidth and dense products (no sparsity, sums in float32) are those of the makers' data sheets.
`memory_mib` is what `nvidia-smi` tells as total, which is what a program finds; such totals are
listed, for most of these, in https://github.com/modal-labs/modal-client/pull/2797.
What a program reaches of either figure is less: on an H200 copies move 4.3 of 4.8 TB/s and large
products in bfloat16 do 790 of 989 TFLOP/s. The same shares are assumed of all others.
"""

from dataclasses import dataclass, field
from difflib import get_close_matches
from enum import StrEnum

MIB = 1024**2
COPY_SHARE, PRODUCT_SHARE = 0.9, 0.8  # of the data sheet's, as an H200 reaches them
FP8_CAPABILITY = (8, 9)  # the first that converts eight-bit floats
_COMPILED = ((8, 0), (9, 0))  # for which the tests compile every kernel


class UnknownHardware(ValueError):
    """No GPU is listed under this name."""


class NumberType(StrEnum):
    """What weights are multiplied in."""

    FP32 = "fp32"
    BF16 = "bf16"
    FP16 = "fp16"
    FP8 = "fp8"
    INT8 = "int8"

    @property
    def num_bytes(self) -> int:
        """Bytes of one number."""
        return {NumberType.FP32: 4, NumberType.FP8: 1, NumberType.INT8: 1}.get(self, 2)


class Support(StrEnum):
    """What is known of our kernels on a GPU. None of them has been timed on one yet.

    They are compiled for compute capability 8.0 and 9.0; others of CUDA should do, ROCm does not.
    """

    COMPILED = "compiled in tests"
    LIKELY = "not tried"
    NONE = "do not run there"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """One device.

    Attributes:
        memory_mib: all there is.
        bytes_per_s: what memory can be read at, at most.
        operations_per_s: of dense products, a multiplication and an addition being two, for each
            type it has. One that is missing is not there.
        copy_share, product_share: what programs reach of these two.
        capability: of CUDA; None for other devices.
        watts: of the board at most, None where it is not known.
    """

    name: str
    memory_mib: int
    bytes_per_s: float
    operations_per_s: dict[NumberType, float] = field(hash=False)
    capability: tuple[int, int] | None
    watts: float | None
    source: str
    is_gpu: bool = True
    copy_share: float = COPY_SHARE
    product_share: float = PRODUCT_SHARE

    @property
    def memory_bytes(self) -> int:
        """All there is, in bytes."""
        return self.memory_mib * MIB

    @property
    def support(self) -> Support:
        """What is known of our kernels there."""
        if not self.is_gpu or self.capability in _COMPILED:
            return Support.COMPILED
        return Support.NONE if self.capability is None else Support.LIKELY

    @property
    def reachable_bytes_per_s(self) -> float:
        """What memory is read at by a good program."""
        return self.bytes_per_s * self.copy_share

    def reachable_operations_per_s(self, number: NumberType) -> float | None:
        """Return what large products come to in a good program; None if it lacks the type."""
        peak = self.operations_per_s.get(number)
        return None if peak is None else peak * self.product_share


def _gpu(
    name: str,
    memory_mib: int,
    gb_per_s: float,
    tflops: float,
    fp8: float | None,
    int8: float | None,
    capability: tuple[int, int] | None,
    watts: float,
    source: str,
) -> Hardware:
    rates = {NumberType.BF16: tflops, NumberType.FP16: tflops}
    rates |= {NumberType.FP8: fp8} if fp8 else {}
    rates |= {NumberType.INT8: int8} if int8 else {}
    return Hardware(
        name=name,
        memory_mib=memory_mib,
        bytes_per_s=gb_per_s * 1e9,
        operations_per_s={number: rate * 1e12 for number, rate in rates.items()},
        capability=capability,
        watts=watts,
        source=source,
    )


_ADA = "NVIDIA Ada GPU Architecture white paper"
_BLACKWELL = "NVIDIA RTX Blackwell GPU Architecture white paper"


def known_gpus() -> tuple[Hardware, ...]:
    """Return the GPUs that are listed, with TFLOP/s in bf16, fp8 and int8.

    Sources: NVIDIA's data sheets "H200 Tensor Core GPU", "H100 Tensor Core GPU", "A100 80GB", "A100
    40GB", "L40S", "L4", "A10" and "HGX B200" (their figures with sparsity halved); for the RTX
    4090 and 5090 the appendices of the Ada and Blackwell white papers, with sums in float32; AMD's
    data sheet "Instinct MI300X". The B200's bandwidth is its driver's (7,680 bits at 3,996 MHz,
    https://github.com/pytorch/ao/pull/4002), its data sheet rounds it to 8 TB/s.
    """
    hopper, ampere = (9, 0), (8, 0)
    return (
        _gpu("H200", 143_771, 4800, 989.4, 1978.9, 1978.9, hopper, 700, "H200 data sheet"),
        _gpu("H100-SXM", 81_559, 3350, 989.4, 1978.9, 1978.9, hopper, 700, "H100 data sheet"),
        _gpu("H100-PCIe", 81_559, 2000, 756, 1513, 1513, hopper, 350, "H100 data sheet"),
        _gpu("A100-80GB-SXM", 81_920, 2039, 312, None, 624, ampere, 400, "A100 data sheet"),
        _gpu("A100-80GB-PCIe", 81_920, 1935, 312, None, 624, ampere, 300, "A100 data sheet"),
        _gpu("A100-40GB", 40_960, 1555, 312, None, 624, ampere, 400, "A100 data sheet"),
        _gpu("L40S", 46_068, 864, 362, 733, 733, (8, 9), 350, "L40S data sheet"),
        _gpu("L4", 23_034, 300, 121, 242, 242, (8, 9), 72, "L4 data sheet"),
        _gpu("A10", 23_028, 600, 125, None, 250, (8, 6), 150, "A10 data sheet"),
        _gpu("RTX-4090", 24_564, 1008, 165.2, 330.3, 660.6, (8, 9), 450, _ADA),
        _gpu("RTX-5090", 32_607, 1792, 209.5, 419, 838, (12, 0), 575, _BLACKWELL),
        _gpu("B200", 182_630, 7672, 2250, 4500, 4500, (10, 0), 1000, "HGX B200 data sheet"),
        _gpu("MI300X", 196_592, 5300, 1307, 2615, 2615, None, 750, "MI300X data sheet"),
    )


_ALIASES = {"h100": "h100sxm", "a100": "a10080gbsxm", "a10080gb": "a10080gbsxm"}


def find_gpu(name: str) -> Hardware:
    """Return the GPU of that name, in capitals or not, with hyphens or without.

    Raises:
        UnknownHardware: there is none.
    """
    by_name = {_plain(gpu.name): gpu for gpu in known_gpus()}
    wanted = _plain(name)
    found = by_name.get(_ALIASES.get(wanted, wanted))
    if found is not None:
        return found
    near = [by_name[key].name for key in get_close_matches(wanted, by_name, n=3)]
    advice = f"did you mean {' or '.join(near)}?" if near else "`--gpu list` shows those there are"
    raise UnknownHardware(f"no GPU is listed under {name!r}; {advice}, or cpu for this machine")


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())
