"""What is asked of the model for one row: the task's wish, or the row's own request.

Knows templates and OpenAI's batch lines, whose column `body` holds a whole request. Knows no
tokens. What is wrong with one row's request is that row's error.
"""

from dataclasses import dataclass, fields, replace
from hashlib import blake2b
from typing import Any

from .frames import Embed
from .model import EMBED, InvalidSampling, RequestError, SamplingParams, TaskSpec
from .response_format import structured_outputs_of
from .template_options import template_options_of
from .templates import Prompt, RenderError, own_prompt, render_task
from .tool_use import ToolUse, tool_use_of

CHAT, PLAIN = "/v1/chat/completions", "/v1/completions"

_SAMPLING = frozenset(field.name for field in fields(SamplingParams))
_IGNORED = frozenset(  # labels and hints, or read apart
    {
        *("model", "messages", "prompt", "user", "metadata", "store", "safety_identifier"),
        *("prompt_cache_key", "service_tier", "max_completion_tokens", "tools", "tool_choice"),
        *("parallel_tool_calls", "response_format", "chat_template_kwargs"),
        *("logprobs", "top_logprobs"),
    }
)
_EMBEDDING = frozenset({"model", "input", "dimensions", "encoding_format", "user"})
_NEUTRAL: dict[str, tuple[object, ...]] = {"stream": (False,)}
_MOST_LOGPROBS, _MOST_TOP_LOGPROBS = 5, 20  # as at OpenAI, of completions and of chats


@dataclass(frozen=True, slots=True)
class RowRequest:
    """A prompt, and how its answer is to be made."""

    prompt: Prompt
    params: SamplingParams
    tools: ToolUse | None
    template_options: dict[str, Any]
    embed: Embed | None = None  # a vector is asked for in place of an answer

    @property
    def is_json(self) -> bool:
        """Whether the answer is to be a JSON document."""
        form = self.params.structured_outputs
        return form is not None and (form.json is not None or bool(form.json_object))


def row_request(
    task: TaskSpec, params: SamplingParams, row: dict[str, Any], custom_id: str | None = None
) -> RowRequest | RequestError:
    """Make a row's request; `params` are those of the task, read once for all rows.

    Raises:
        TemplateError: the task's template cannot be used; a sealed job's always can.
    """
    try:
        body = row.get("body")
        if task.endpoint == EMBED:
            return _embedding(task, row, custom_id)
        if task.prompt is None and task.messages is None and isinstance(body, dict):
            return _own_request(task, params, row, body)
        prompt = render_task(task, row, custom_id)
        return RowRequest(prompt, params, task.tools, task.template_options)
    except RenderError as error:
        return error.to_request_error()
    except InvalidSampling as error:
        return RequestError("invalid_request", str(error), param=error.param, stage="validate")


def asks_for_logprobs(row: dict[str, Any]) -> bool:
    """Tell whether the request that a row brings asks for log-probabilities."""
    body = row.get("body")
    wanted = body.get("logprobs") if isinstance(body, dict) else None
    return wanted is not None and wanted is not False


def row_params(params: SamplingParams, job_id: str, row_index: int) -> SamplingParams:
    """Give a row chances of its own: equal prompts differ, and a row run again repeats itself.

    They follow from the job's seed, so the same job under another id repeats itself too; without
    a seed, from the job's id.
    """
    if params.is_greedy:
        return params
    source = job_id if params.seed is None else params.seed
    digest = blake2b(f"{source}/{row_index}".encode(), digest_size=8).digest()
    return replace(params, seed=int.from_bytes(digest, "little", signed=True))


def _own_request(
    task: TaskSpec, params: SamplingParams, row: dict[str, Any], body: dict[str, Any]
) -> RowRequest:
    """Read a request as OpenAI's batches write it; what it leaves open, the task decides."""
    url = row.get("url") or task.endpoint
    if url not in (None, CHAT, PLAIN):
        raise _wrong("url", f"must be {CHAT} or {PLAIN}, got {str(url)[:80]!r}")
    if body.get("model") not in (None, task.model):
        raise _wrong("model", f"must be the job's, {task.model!r}, got {str(body['model'])[:80]!r}")
    is_chat = body.get("messages") is not None if url is None else url == CHAT
    sampling = _sampling(body, is_chat=is_chat)
    if sampling:
        params = SamplingParams.from_mapping({**params.to_mapping(), **sampling})
    options = template_options_of(body.get("chat_template_kwargs")) or task.template_options
    return RowRequest(own_prompt(body, url), params, _tools(task.tools, body), options)


def _embedding(task: TaskSpec, row: dict[str, Any], custom_id: str | None) -> RowRequest:
    """Ask for the vector of a row's text: the task's template, its own, or that of its `body`."""
    body = row.get("body")
    if task.prompt is not None or not isinstance(body, dict):
        prompt = render_task(task, row, custom_id)
        if prompt.text is None:
            raise _wrong("messages", "have no vector; give a text in `prompt`")
        return RowRequest(prompt, SamplingParams(), None, {}, Embed(task.dimensions))
    if row.get("url") not in (None, EMBED):
        raise _wrong("url", f"must be the job's, {EMBED}, got {str(row['url'])[:80]!r}")
    if body.get("model") not in (None, task.model):
        raise _wrong("model", f"must be the job's, {task.model!r}, got {str(body['model'])[:80]!r}")
    for name in body.keys() - _EMBEDDING:
        raise _wrong(str(name)[:80], "is not known, or not supported in a row")
    if body.get("encoding_format") not in (None, "float"):
        raise _wrong("encoding_format", "must be float: a row's vector is landed as numbers")
    texts = body.get("input")
    match [texts] if isinstance(texts, str) else texts:
        case [str() as text]:
            own = Prompt(text, None, EMBED)
        case _:
            raise _wrong("input", "must be one text; a row has one vector")
    dimensions = body.get("dimensions")
    if dimensions is None:
        dimensions = task.dimensions
    if dimensions is not None and (type(dimensions) is not int or dimensions < 1):
        raise _wrong("dimensions", f"must be an integer from 1, got {str(dimensions)[:20]!r}")
    return RowRequest(own, SamplingParams(), None, {}, Embed(dimensions))


def _tools(of_task: ToolUse | None, body: dict[str, Any]) -> ToolUse | None:
    """Read what a body says about tools; alone, a choice is one among the task's."""
    tools, choice = body.get("tools"), body.get("tool_choice")
    parallel = body.get("parallel_tool_calls")
    if of_task is None or tools is not None:
        return tool_use_of(tools, choice, parallel)
    if choice is None and parallel is None:
        return of_task
    use = tool_use_of(of_task.tools, choice, of_task.is_parallel if parallel is None else parallel)
    if use is not None and choice is None:
        return replace(use, choice=of_task.choice, only=of_task.only)
    return use


def _sampling(body: dict[str, Any], *, is_chat: bool) -> dict[str, Any]:
    """Return what a body says about sampling, under our names."""
    said: dict[str, Any] = {}
    for name, value in body.items():
        is_neutral = any(value is neutral for neutral in _NEUTRAL.get(name, ()))  # 0 is not False
        if value is None or is_neutral or name in _IGNORED:
            continue
        if name == "prompt_logprobs":
            raise _wrong(name, "cannot be landed; leave it out")
        if name not in _SAMPLING:
            raise _wrong(name, "is not known, or not supported in a row")
        said[name] = value
    logprobs = _logprobs(body, is_chat=is_chat)
    if logprobs is not None:
        said["logprobs"] = logprobs
    if body.get("max_completion_tokens") is not None:
        said["max_tokens"] = body["max_completion_tokens"]
    form = structured_outputs_of(body.get("response_format"))
    if form is not None:
        said["structured_outputs"] = form
    elif body.get("response_format") is not None:  # any text will do, whatever the task wants
        said.setdefault("structured_outputs", None)
    return said


def _logprobs(body: dict[str, Any], *, is_chat: bool) -> int | None:
    """Read how many tokens are to be told beside each one; chats and completions say it apart."""
    wanted, top = body.get("logprobs"), body.get("top_logprobs")
    if top is not None and not (is_chat and wanted is True):
        raise _wrong("top_logprobs", "takes a chat with logprobs=true")
    if wanted is None or wanted is False:
        return None
    if is_chat and wanted is not True:
        raise _wrong("logprobs", f"must be true or false in a chat, got {str(wanted)[:20]!r}")
    name, number, most = "logprobs", wanted, _MOST_LOGPROBS
    if is_chat:
        name, number, most = "top_logprobs", top if top is not None else 0, _MOST_TOP_LOGPROBS
    if type(number) is not int or not 0 <= number <= most:
        raise _wrong(name, f"must be an integer from 0 to {most}, got {str(number)[:20]!r}")
    return number


def _wrong(param: str, message: str) -> InvalidSampling:
    return InvalidSampling(param, message)
