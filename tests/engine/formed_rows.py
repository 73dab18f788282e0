"""Requests for an output of some form, and an engine of random logits that answers them."""

from typing import Any

from penstock.engine.config import EngineConfig
from penstock.engine.engine import Engine
from penstock.engine.outputs import Request, StepOutput
from penstock.engine.sampling_params import SamplingParams, StructuredOutputs
from penstock.engine.tokenizer import Tokenizer

from .fake_runner import FakeRunner
from .tiny_tokenizers import byte_level

SHORT = {"type": "string", "maxLength": 6}
BUDGET_S = 60.0  # for a grammar, which takes milliseconds but on a machine that stands still


def an_object(*optional: str, **properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": [name for name in properties if name not in optional],
        "additionalProperties": False,
    }


def an_array(items: Any, low: int, high: int) -> dict[str, Any]:
    return {"type": "array", "items": items, "minItems": low, "maxItems": high}


def form_of(schema: dict[str, Any]) -> StructuredOutputs:
    return StructuredOutputs(json=schema)


def make_engine(
    num_blocks: int = 400,
    tokenizer: Tokenizer | None = None,
    runner: FakeRunner | None = None,
    **options: Any,
) -> Engine:
    return Engine(
        EngineConfig(
            device="cpu",
            num_threads=1,
            **{"max_num_seqs": 32, "grammar_timeout_s": BUDGET_S, **options},
        ),
        runner=runner or FakeRunner(num_blocks),
        tokenizer=tokenizer or byte_level(),
    )


def run(engine: Engine, *requests: Request) -> dict[tuple[str, int], StepOutput]:
    """Run requests that tell of their end alone."""
    for request in requests:
        assert engine.add(request) is None
    return finish(engine)


def finish(engine: Engine) -> dict[tuple[str, int], StepOutput]:
    outputs: dict[tuple[str, int], StepOutput] = {}
    while engine.has_work:
        for output in engine.step():
            assert (output.request_id, output.sample_index) not in outputs
            outputs[output.request_id, output.sample_index] = output
        engine.check()
    return outputs


def request(name: str, form: StructuredOutputs | None = None, **params: Any) -> Request:
    params = {"max_tokens": 300, "seed": 1, **params}
    prompt = tuple(range(20, 20 + 5 + len(name)))
    return Request(
        name, prompt, SamplingParams(structured_outputs=form, **params), stream_interval=0
    )
