"""vLLM for CPUs as a contender, in its own environment.

python serve_vllm.py CHECKPOINT THREADS CACHING
"""

import os
import sys

from serving import Run, serve
from work import Work


def load(directory: str, num_threads: str, caching: str) -> Run:
    """Load the model with the engine in this very process, so that its time is counted."""
    cores = sorted(os.sched_getaffinity(0))[: int(num_threads)]
    os.environ |= {
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": ",".join(map(str, cores)),
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_LOGGING_LEVEL": "WARNING",
        "HF_HUB_OFFLINE": "1",
    }
    os.environ.pop("OMP_NUM_THREADS", None)  # it wants to set this by itself, from the binding
    from vllm import LLM, SamplingParams  # pyright: ignore[reportMissingImports]

    llm = LLM(
        model=directory,
        dtype="bfloat16",
        max_model_len=1024,
        max_num_seqs=64,
        enable_prefix_caching=caching == "on",
        skip_tokenizer_init=True,
    )

    def run(work: Work) -> list[list[int]]:
        prompts = [{"prompt_token_ids": prompt} for prompt in work.prompts]
        params = [
            SamplingParams(temperature=0, max_tokens=length, ignore_eos=True, detokenize=False)
            for length in work.lengths
        ]
        answers = llm.generate(prompts, params, use_tqdm=False)
        return [list(answer.outputs[0].token_ids) for answer in answers]

    return run


if __name__ == "__main__":
    serve(lambda: load(*sys.argv[1:]))
