"""transformers as a contender: one padded batch, or its own continuous batching.

python serve_transformers.py CHECKPOINT THREADS DTYPE static|continuous
"""

import sys
from typing import Any

import torch
from serving import Run, serve
from transformers import AutoModelForCausalLM, GenerationConfig
from work import Work

_PATIENCE_S = 300


def load(directory: str, num_threads: str, dtype: str, batching: str) -> Run:
    """Load the model for the way of batching that was asked for."""
    torch.set_num_threads(int(num_threads))
    model: Any = AutoModelForCausalLM.from_pretrained(directory, dtype=dtype).eval()
    run = _run_static if batching == "static" else _run_continuous
    return lambda work: run(model, work)


def _run_static(model: Any, work: Work) -> list[list[int]]:
    width, most = max(map(len, work.prompts)), max(work.lengths)
    token_ids = torch.zeros(len(work.prompts), width, dtype=torch.long)
    mask = torch.zeros_like(token_ids)
    for row, prompt in enumerate(work.prompts):
        token_ids[row, width - len(prompt) :] = torch.tensor(prompt)
        mask[row, width - len(prompt) :] = 1
    with torch.inference_mode():
        answers = model.generate(
            input_ids=token_ids,
            attention_mask=mask,
            max_new_tokens=most,
            min_new_tokens=most,
            do_sample=False,
            eos_token_id=None,
            pad_token_id=0,
        )
    rows = zip(answers[:, width:].tolist(), work.lengths, strict=True)
    return [row[:length] for row, length in rows]


def _run_continuous(model: Any, work: Work) -> list[list[int]]:
    settings = GenerationConfig(do_sample=False, eos_token_id=-1, pad_token_id=0)
    queue = model.init_continuous_batching(generation_config=settings)
    queue.start()
    try:
        names = [
            queue.add_request(prompt, max_new_tokens=length)
            for prompt, length in zip(work.prompts, work.lengths, strict=True)
        ]
        answers: dict[str, list[int]] = {}
        while len(answers) < len(names):
            answer = queue.get_result(timeout=_PATIENCE_S)
            if answer is None:
                raise RuntimeError(f"transformers gave no answer within {_PATIENCE_S} s")
            if answer.is_finished():
                answers[answer.request_id] = list(answer.generated_tokens)
    finally:
        queue.stop(block=True)
    return [answers[name] for name in names]


if __name__ == "__main__":
    serve(lambda: load(*sys.argv[1:]))
