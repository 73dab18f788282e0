"""What can be wrong with a call before there is a row: the function, or what it is given."""

from .errors import nearest
from .functions import FUNCTIONS

_AGGREGATES = ("count", "majority")  # that are no functions besides


def call_problem(called: str, name: str, num_arguments: int, *, has_attribute: bool) -> str | None:
    """Say what is wrong with a call; None if nothing is.

    Args:
        called: what the function is called in the text; a filter may have another name there.
    """
    function = FUNCTIONS.get(name)
    if function is None:
        if called in _AGGREGATES:
            return f"{called} is an aggregate; it can only be called in `agg`"
        return f"there is no function {called[:40]!r}{nearest(called, FUNCTIONS)}"
    few, many = function.num_required, function.num_allowed
    if not few <= num_arguments <= many:
        wants = f"{few}" if few == many else f"{few} to {many}"
        return f"{called} takes {wants} arguments, got {num_arguments}"
    if has_attribute and not (function.has_attribute and num_arguments == 1):
        return f"{called} takes no attribute here"
    if name == "map" and not has_attribute:
        return "map takes an attribute, such as map(attribute='amount')"
    return None
