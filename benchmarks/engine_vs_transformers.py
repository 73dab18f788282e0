"""Is the engine faster than transformers on the demo model, in one run, with the same tokens?

    python benchmarks/engine_vs_transformers.py [--prompts 64] [--rounds 2] [--continuous]

Both work through the same prompts in float32 with greedy decoding and no early end: "fixed" is 128
tokens in and 64 out, "mixed" 16 to 256 in and 8 to 128 out. transformers runs `generate` on one
padded batch and, with --continuous, its continuous batching (what `generate_batch` runs on). The
contenders are those of `engine_peers`, which races a larger model against every peer; they work in
turn, each in a process of its own. A machine shared with others makes wall times doubtful, so the
processor time that each took is printed as well.
"""

import argparse
import json
import random
import subprocess
import sys
from pathlib import Path

from engine_peers.work import Work

from penstock.engine.cores import usable_cores
from penstock.engine.model_place import DEMO_MODEL, resolve_model

PEERS = Path(__file__).parent / "engine_peers"
IDS = (10, 1023)  # of the demo model's vocabulary
CONTENDERS = {
    "penstock": ("serve_penstock.py", "float32", "none", "off"),
    "transformers static": ("serve_transformers.py", "float32", "static"),
    "transformers continuous": ("serve_transformers.py", "float32", "continuous"),
}


def make_work(kind: str, num_prompts: int) -> Work:
    chance = random.Random(1)
    sizes = [
        (128, 64) if kind == "fixed" else (chance.randint(16, 256), chance.randint(8, 128))
        for _ in range(num_prompts)
    ]
    prompts = [[chance.randint(*IDS) for _ in range(size)] for size, _ in sizes]
    return Work(f"{kind}-{num_prompts}", prompts, [length for _, length in sizes])


class Contender:
    """A contender in a process of its own, so that nobody sets another one's threads."""

    def __init__(self, name: str) -> None:
        self.name = name
        script, *options = CONTENDERS[name]
        model, threads = resolve_model(DEMO_MODEL), usable_cores()
        command = [sys.executable, PEERS / script, model, str(threads), *options]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._answer()  # it has loaded

    def run(self, work: Work) -> tuple[list[list[int]], tuple[float, float]]:
        print(json.dumps(vars(work)), file=self._process.stdin, flush=True)
        answer = self._answer()
        return answer["tokens"], (answer["wall_s"], answer["own_s"])

    def close(self) -> None:
        self._process.communicate()

    def _answer(self) -> dict:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name} died; what it said stands above")
        return json.loads(line)


def measure(contenders: list[Contender], work: Work, rounds: int) -> None:
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
            f"{work.name:10s} {name:24s} {work.num_tokens / wall:8.0f} tok/s  wall {wall:7.2f} s "
            f"({wall / ours[0]:5.2f} x ours)  processor {used:7.2f} s ({used / ours[1]:5.2f} x)  "
            f"same rows {same}/{len(truth)}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--kinds", nargs="*", default=["fixed", "mixed"])
    parser.add_argument("--continuous", action="store_true")
    arguments = parser.parse_args()
    names = [name for name in CONTENDERS if "continuous" not in name or arguments.continuous]
    contenders = [Contender(name) for name in names]
    for kind in arguments.kinds:
        measure(contenders, make_work(kind, arguments.prompts), arguments.rounds)
    for contender in contenders:
        contender.close()


if __name__ == "__main__":
    main()
