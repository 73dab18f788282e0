"""OpenVINO GenAI's continuous batching as a contender, in its own environment.

python serve_openvino.py MODEL_DIRECTORY THREADS PRECISION
"""

import sys

from serving import Run, serve
from work import Work


def load(directory: str, num_threads: str, precision: str) -> Run:
    """Load the model; `precision` is what products are computed in, f32 or bf16."""
    import numpy as np
    import openvino as ov  # pyright: ignore[reportMissingImports]
    import openvino_genai as genai  # pyright: ignore[reportMissingImports]

    scheduling = genai.SchedulerConfig()
    scheduling.cache_size = 2
    scheduling.max_num_seqs = 64
    scheduling.max_num_batched_tokens = 512
    scheduling.dynamic_split_fuse = True
    scheduling.enable_prefix_caching = False
    properties = {
        "INFERENCE_NUM_THREADS": int(num_threads),
        "INFERENCE_PRECISION_HINT": precision,
    }
    pipeline = genai.ContinuousBatchingPipeline(directory, scheduling, "CPU", properties)

    def run(work: Work) -> list[list[int]]:
        prompts = [ov.Tensor(np.array([prompt], dtype=np.int64)) for prompt in work.prompts]
        settings = []
        for length in work.lengths:
            setting = genai.GenerationConfig()
            setting.max_new_tokens = setting.min_new_tokens = length
            setting.ignore_eos = True
            setting.do_sample = False
            settings.append(setting)
        answers = pipeline.generate(prompts, settings)
        return [list(answer.m_generation_ids[0]) for answer in answers]

    return run


if __name__ == "__main__":
    serve(lambda: load(*sys.argv[1:]))
