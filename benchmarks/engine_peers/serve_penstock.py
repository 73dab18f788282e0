"""Penstock as a contender.

python serve_penstock.py CHECKPOINT THREADS DTYPE QUANTIZATION CACHING
"""

import sys
from typing import Any

from serving import Run, serve
from work import Work

from penstock.engine.llm import LLM
from penstock.engine.sampling_params import SamplingParams


def load(directory: str, num_threads: str, dtype: str, quantization: str, caching: str) -> Run:
    """Load the model; `quantization` is none or int8, `caching` on or off."""
    options: dict[str, Any] = {} if quantization == "none" else {"quantization": quantization}
    llm = LLM(
        directory,
        dtype=dtype,
        num_threads=int(num_threads),
        enable_prefix_caching=caching == "on",
        **options,
    )

    def run(work: Work) -> list[list[int]]:
        params = [
            SamplingParams(temperature=0, max_tokens=length, ignore_eos=True)
            for length in work.lengths
        ]
        answers = llm.generate(work.prompts, params, progress=False)
        return [list(answer.outputs[0].token_ids) for answer in answers]

    return run


if __name__ == "__main__":
    serve(lambda: load(*sys.argv[1:]))
