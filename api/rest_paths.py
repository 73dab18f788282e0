"""Paths of the REST interface, made of names that anybody may have typed. Knows no route."""

from urllib.parse import quote

from .client_errors import InvalidInput

_NOWHERE = frozenset({"", ".", ".."})  # what a path would lose, and be another


def path_to(*names: str) -> str:
    """Join names below `/v1`, as in `path_to("jobs", job_id, "cancel")`; each stays one name.

    Raises:
        InvalidInput: one of them cannot be a name in a path.
    """
    for name in names:
        # A server reads %2F as a slash before it looks for a route, so quoting alone will not do.
        if not isinstance(name, str) or name in _NOWHERE or "/" in name:
            raise InvalidInput(f"this can be no id, nor a name: {name!r}")
    return "/v1/" + "/".join(quote(name, safe="") for name in names)
