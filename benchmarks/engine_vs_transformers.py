"""Is the engine alone faster than transformers on the same machine, in one run?

    python benchmarks/engine_vs_transformers.py [demo] [qwen-0.5b] [--prompts 64] [--rounds 2]

Both work through the same prompts with greedy decoding and no early end: "fixed" is 128 tokens in
and 64 out, "mixed" 16 to 256 in and 8 to 128 out. transformers runs `generate` on one padded batch
and, with --continuous, its continuous batching (what `generate_batch` runs on). Each has a process
of its own with its own default number of threads; they work in turn. A machine shared with others
makes wall times doubtful, so the processor time that each took is printed as well.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    GenerationConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from penstock.engine.config import DEMO_MODEL, resolve_model
from penstock.engine.llm import LLM
from penstock.engine.sampling_params import SamplingParams


@dataclass(frozen=True)
class Work:
    """Prompts and how many tokens each is to be answered with."""

    prompts: list[list[int]]
    lengths: list[int]

    @property
    def num_tokens(self) -> int:
        return sum(self.lengths)


def make_work(kind: str, num_prompts: int, vocab_size: int) -> Work:
    chance = random.Random(1)
    sizes = [
        (128, 64) if kind == "fixed" else (chance.randint(16, 256), chance.randint(8, 128))
        for _ in range(num_prompts)
    ]
    high = min(vocab_size, 30_000) - 1
    prompts = [[chance.randint(high // 100, high) for _ in range(size)] for size, _ in sizes]
    return Work(prompts, [length for _, length in sizes])


def make_qwen_checkpoint(directory: Path) -> Path:
    """Random weights in the shape of Qwen2.5-0.5B, with a tokenizer of single bytes."""
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=151936,
        hidden_size=896,
        intermediate_size=4864,
        num_hidden_layers=24,
        num_attention_heads=14,
        num_key_value_heads=2,
        max_position_embeddings=32768,
        rope_parameters={"rope_type": "default", "rope_theta": 1e6},
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=0,
    )
    model: Any = Qwen2ForCausalLM(config)  # transformers types `to` as taking no type
    model.to(torch.bfloat16).save_pretrained(directory)
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    bytes_only = Tokenizer(models.BPE({letter: i for i, letter in enumerate(letters)}, []))
    bytes_only.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytes_only.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=bytes_only).save_pretrained(directory)
    return directory


def penstock(directory: Path, dtype: str) -> Callable[[Work], list[list[int]]]:
    llm = LLM(str(directory), dtype=dtype, enable_prefix_caching=False)

    def run(work: Work) -> list[list[int]]:
        params = [
            SamplingParams(temperature=0, max_tokens=length, ignore_eos=True)
            for length in work.lengths
        ]
        answers = llm.generate(work.prompts, params, progress=False)
        return [list(answer.outputs[0].token_ids) for answer in answers]

    return run


def load_transformers(directory: Path, dtype: str) -> Any:
    return AutoModelForCausalLM.from_pretrained(directory, dtype=dtype).eval()


def transformers_static(directory: Path, dtype: str) -> Callable[[Work], list[list[int]]]:
    model = load_transformers(directory, dtype)

    def run(work: Work) -> list[list[int]]:
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

    return run


def transformers_continuous(directory: Path, dtype: str) -> Callable[[Work], list[list[int]]]:
    model = load_transformers(directory, dtype)

    def run(work: Work) -> list[list[int]]:
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
                answer = queue.get_result(timeout=300)
                if answer is None:
                    raise RuntimeError("transformers gave no answer within 300 s")
                if answer.is_finished():
                    answers[answer.request_id] = list(answer.generated_tokens)
        finally:
            queue.stop(block=True)
        return [answers[name] for name in names]

    return run


CONTENDERS: dict[str, Callable[[Path, str], Callable[[Work], list[list[int]]]]] = {
    "penstock": penstock,
    "transformers static": transformers_static,
    "transformers continuous": transformers_continuous,
}


def contend(name: str, directory: Path, dtype: str) -> None:
    """Be one contender: work through each line of stdin, answer with tokens and times on stdout."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")  # libraries may print what they like
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    run = CONTENDERS[name](directory, dtype)
    for line in sys.stdin:
        work = Work(**json.loads(line))
        wall_s, used_s = time.perf_counter(), time.process_time()
        token_ids = run(work)
        took_s = [time.perf_counter() - wall_s, time.process_time() - used_s]
        print(json.dumps([token_ids, took_s]), file=answers, flush=True)


class Contender:
    """A contender in a process of its own, so that nobody sets another one's threads."""

    def __init__(self, name: str, directory: Path, dtype: str) -> None:
        self.name = name
        command = [sys.executable, __file__, "--contender", name, str(directory), dtype]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(self, work: Work) -> tuple[list[list[int]], tuple[float, float]]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(asdict(work)), file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"{self.name} died; what it said stands above")
        token_ids, (wall_s, used_s) = json.loads(answer)
        return token_ids, (wall_s, used_s)

    def close(self) -> None:
        self._process.communicate()


def measure(contenders: list[Contender], work: Work, rounds: int, title: str) -> None:
    """Let them work in turn and print each one's best round, and whether the tokens agree."""
    best: dict[str, tuple[float, float]] = {}
    found: dict[str, list[list[int]]] = {}
    for _ in range(rounds):
        for contender in contenders:
            found[contender.name], took = contender.run(work)
            best[contender.name] = min(best.get(contender.name, took), took)
    ours, *_ = best.values()
    truth = next(iter(found.values()))
    for name, (wall, used) in best.items():
        same = sum(a == b for a, b in zip(truth, found[name], strict=True))
        print(
            f"{title:24s} {name:24s} {work.num_tokens / wall:8.0f} tok/s  wall {wall:7.2f} s "
            f"({wall / ours[0]:5.2f} x ours)  processor {used:7.2f} s ({used / ours[1]:5.2f} x)  "
            f"same rows {same}/{len(truth)}",
            flush=True,
        )


def main() -> None:
    if sys.argv[1:2] == ["--contender"]:
        name, directory, dtype = sys.argv[2:]
        contend(name, Path(directory), dtype)
        return
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("models", nargs="*", default=["demo", "qwen-0.5b"])
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--kinds", nargs="*", default=["fixed", "mixed"])
    parser.add_argument("--continuous", action="store_true")
    arguments = parser.parse_args()
    names = [name for name in CONTENDERS if "continuous" not in name or arguments.continuous]
    with tempfile.TemporaryDirectory() as scratch:
        for model in arguments.models:
            if model == "demo":
                directory, dtype, vocab_size = resolve_model(DEMO_MODEL), "float32", 1024
            else:
                directory, dtype = make_qwen_checkpoint(Path(scratch)), "bfloat16"
                vocab_size = 151_936
            contenders = [Contender(name, directory, dtype) for name in names]
            for kind in arguments.kinds:
                work = make_work(kind, arguments.prompts, vocab_size)
                measure(contenders, work, arguments.rounds, f"{model} {dtype} {kind}")
            for contender in contenders:
                contender.close()


if __name__ == "__main__":
    main()
