"""An interactive request under way in the engine: which samples are to come, and what they say.

Knows text and tool calls, neither tokens nor sockets.
"""

from ..engine.outputs import FinishReason, Request, StepOutput
from .tool_use import TOOL_CALLS, ToolCall, ToolCallParser, ToolFormat, call_ids


class OpenRequest:
    """Tells tool calls from text in every sample, where the request may call tools at all.

    Attributes:
        first_token_id: the token with which the prompt begins.
    """

    __slots__ = ("_echoes", "_num_left", "_readers", "first_token_id")

    def __init__(self, request: Request, calls: ToolFormat | None, echo: str = "") -> None:
        num_samples = request.params.n
        self.first_token_id = request.prompt_token_ids[0]
        self._num_left = num_samples
        self._echoes = [echo] * num_samples
        self._readers: list[ToolCallParser] = []
        if calls is not None:
            for index in range(num_samples):
                new_id = call_ids(of=f"{request.request_id}/{index}")
                self._readers.append(ToolCallParser(calls, new_id))

    @property
    def is_over(self) -> bool:
        """Whether every sample has ended."""
        return self._num_left == 0

    def read(self, output: StepOutput) -> tuple[str, tuple[ToolCall, ...], str | None]:
        """Return the new text, the calls that have become whole, and why the sample ended."""
        if output.finish_reason is not None:
            self._num_left -= 1
        if not self._readers:
            echo, self._echoes[output.sample_index] = self._echoes[output.sample_index], ""
            return echo + output.text, (), output.finish_reason
        reader = self._readers[output.sample_index]
        parsed = reader.push(output.text)
        if output.finish_reason is None:
            return parsed.text, parsed.calls, None
        rest = reader.flush()
        is_call = reader.has_called and output.finish_reason is FinishReason.STOP
        reason = TOOL_CALLS if is_call else output.finish_reason
        return parsed.text + rest.text, parsed.calls + rest.calls, reason
