"""How a Redis URL is shown to people: without what opens the door. Loads no Redis."""

import re

_USERINFO = re.compile(r"(?<=://)[^/?#]*@")
_QUERY_PASSWORD = re.compile(r"(?<=[?&]password=)[^&#]*")


def without_password(url: str) -> str:
    """Mask the user and the password of a URL, wherever in it they stand."""
    return _QUERY_PASSWORD.sub("***", _USERINFO.sub("***@", url))
