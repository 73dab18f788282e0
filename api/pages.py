"""Lists, a page at a time, as OpenAI's clients read them. Knows no object but its id."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from .errors import InvalidRequest, shown

Item = TypeVar("Item")


def page_of(
    items: Sequence[Item],
    *,
    after: str | None,
    limit: int,
    id_of: Callable[[Item], str],
    show: Callable[[Item], dict[str, Any]],
) -> dict[str, Any]:
    """Return up to `limit` of the items behind the one whose id is `after`.

    Raises:
        InvalidRequest: there is no such item.
    """
    start = 0
    if after is not None:
        places = [place for place, item in enumerate(items) if id_of(item) == after]
        if not places:
            raise nothing_behind(after)
        start = places[0] + 1
    return list_of(
        [show(item) for item in items[start : start + limit]],
        has_more=start + limit < len(items),
    )


def nothing_behind(after: str) -> InvalidRequest:
    """Refuse to go on behind what is not in the list."""
    message = f"after: nothing in this list has the id {shown(after)}"
    return InvalidRequest(message, param="after")


def list_of(data: list[dict[str, Any]], *, has_more: bool) -> dict[str, Any]:
    """Return a list object; without `has_more` clients would ask for pages for ever."""
    return {
        "object": "list",
        "data": data,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
        "has_more": has_more,
    }
