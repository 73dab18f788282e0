"""The same shapes and work in transformers: `generate` on a padded batch, and `generate_batch`."""

import os
import time
from typing import Any

import torch
from part import Part
from shapes import SHAPES, Work
from transformers import AutoModelForCausalLM, GenerationConfig


def generate(part: Part, model: Any, work: Work) -> dict[str, Any]:
    """Tokens that were asked for; a padded batch goes on to the longest."""
    width, most = max(map(len, work.prompts)), max(work.lengths)
    token_ids = torch.zeros(len(work.prompts), width, dtype=torch.long)
    mask = torch.zeros_like(token_ids)
    for row, prompt in enumerate(work.prompts):
        token_ids[row, width - len(prompt) :] = torch.tensor(prompt)
        mask[row, width - len(prompt) :] = 1
    began = time.perf_counter()
    model.generate(
        input_ids=token_ids.to(part.device),
        attention_mask=mask.to(part.device),
        max_new_tokens=most,
        min_new_tokens=most,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=0,
    )
    part.synchronize()
    took = time.perf_counter() - began
    return {"tokens_per_s": sum(work.lengths) / took, "seconds": took}


def generate_batch(part: Part, model: Any, work: Work) -> dict[str, Any]:
    settings = GenerationConfig(do_sample=False, eos_token_id=-1, pad_token_id=0)
    queue = model.init_continuous_batching(generation_config=settings)
    began = time.perf_counter()
    queue.start()
    generated = finished = 0
    try:
        for prompt, length in zip(work.prompts, work.lengths, strict=True):
            queue.add_request(list(prompt), max_new_tokens=length)
        while finished < len(work.prompts) and part.seconds_left > 0:
            answer = queue.get_result(timeout=1.0)
            if answer is not None and answer.is_finished():
                finished += 1
                generated += len(answer.generated_tokens)
    finally:
        queue.stop(block=True, timeout=3.0)
    took = time.perf_counter() - began
    return {
        "tokens_per_s": generated / took,
        "seconds": took,
        "complete": finished == len(work.prompts),
    }


if __name__ == "__main__":
    part = Part.from_command_line()
    config = SHAPES[part.choice].config(part.tiny)
    with part.device:
        model: Any = AutoModelForCausalLM.from_config(config, dtype=config.dtype).eval()
    work = Work.of(4 if part.tiny else 64, tiny=part.tiny, longest=256)
    part.attempt("generate, 64 requests", lambda: generate(part, model, work))
    if part.device.type == "cuda":  # on a CPU it wants to know more of memory than there is to know
        part.attempt("generate_batch, 64 requests", lambda: generate_batch(part, model, work))
    os._exit(0)  # its thread may go on for ever
