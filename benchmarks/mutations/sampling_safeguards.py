"""The lines between logits and tokens that give each row its own, whoever draws. Facts only."""

from .safeguard import Safeguard

_ENDINGS = ("tests/engine/test_endings.py",)
_SAMPLER = ("tests/engine/test_sampler.py",)
_DEVICE_SAMPLER = ("tests/engine/test_device_sampler.py",)
_LOGITS = ("tests/kernels/test_triton_logits.py",)

SAMPLING_SAFEGUARDS = (
    # -- on the host
    Safeguard(
        "the random number counts places",
        "kernels/reference_sampling.py",
        "keys + places.long() *",
        "keys + 0 * places.long() *",
        _SAMPLER,
    ),
    Safeguard(
        "samples of one request differ",
        "engine/sequence.py",
        'f"{source}#{sample_index}"',
        'f"{source}#"',
        _SAMPLER,
    ),
    Safeguard(
        "logprobs are taken before the logits are changed",
        "engine/sampler.py",
        "raw = logits[logprob_rows].clone() if logprob_rows else None",
        "raw = logits if logprob_rows else None",
        _SAMPLER,
    ),
    Safeguard(
        "endings are out of reach before min_tokens",
        "engine/logit_rules.py",
        "            logits[endings] = -torch.inf\n",
        "",
        _SAMPLER,
    ),
    Safeguard(
        "no stop token ends before min_tokens",
        "engine/sequence.py",
        "may_stop = self.num_generated >= params.min_tokens",
        "may_stop = True",
        _ENDINGS,
    ),
    Safeguard(
        "logits that are no numbers are noticed",
        "engine/sampler.py",
        "    finite = torch.isfinite(best)\n",
        "    finite = torch.ones_like(best, dtype=torch.bool)\n",
        _SAMPLER,
    ),
    # -- on the device
    Safeguard(
        "a line that is given again forgets the row before",
        "engine/sampling_tables.py",
        """sequence.num_prompt, -1\n""",
        """sequence.num_prompt, 0\n""",
        _DEVICE_SAMPLER,
    ),
    Safeguard(
        "what is counted is not counted again, specification",
        "kernels/reference_logits.py",
        "is_known & (numbers >= before[:, None])",
        "is_known & (numbers >= 0)",
        _DEVICE_SAMPLER,
    ),
    Safeguard(
        "what is counted is not counted again, kernel",
        "kernels/triton_history.py",
        "    tl.store(nums_recorded + line * line_stride, num_known)\n",
        "",
        _LOGITS,
    ),
    Safeguard(
        "rows without penalties keep out of others' histories, specification",
        "kernels/reference_logits.py",
        "slot = slot.where(is_kept, history.counts.shape[0] - 1).long()",
        "slot = slot.clamp(min=0).long()",
        _LOGITS,
    ),
    Safeguard(
        "the host's logprobs and the device's are of the same logits",
        "engine/device_sampler.py",
        "            changed = logits.clone()\n",
        "            pass\n",
        _DEVICE_SAMPLER,
    ),
    Safeguard(
        "unsound rows are drawn for without their logits",
        "engine/drawing.py",
        "safe = logits.where(is_sound[:, None], 0.0)",
        "safe = logits",
        _DEVICE_SAMPLER,
    ),
)
