"""Bodies in which nothing is ignored in silence. Knows no body.

A parameter is either obeyed, or harmless to leave out (`user`), or answered with a 400: "unknown
parameter" for what nobody knows, "not supported" for what OpenAI has and we have not. A neutral
value of the latter (`best_of: 1`) asks for nothing and may pass.
"""

from typing import Any, ClassVar

from pydantic import ConfigDict, model_validator

from .described import Described
from .errors import UnsupportedParameter


class Strict(Described):
    """Refuses what it does not know."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, strict=True)

    # What OpenAI has and we have not -> the values of it that ask for nothing.
    not_supported: ClassVar[dict[str, tuple[object, ...]]] = {}

    @model_validator(mode="before")
    @classmethod
    def _drop_neutral(cls, values: Any) -> Any:
        if not isinstance(values, dict) or cls.not_supported.keys().isdisjoint(values):
            return values
        for name in cls.not_supported.keys() & values.keys():
            if values[name] is not None and values[name] not in cls.not_supported[name]:
                raise UnsupportedParameter(f"{name} is not supported yet", param=name)
        return {name: value for name, value in values.items() if name not in cls.not_supported}
