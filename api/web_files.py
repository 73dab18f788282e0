"""Rows that lie on the web as a file's name and pieces. Knows http and the Hugging Face hub."""
from collections.abc import Iterator


def web_pieces(url: str) -> tuple[str, Iterator[bytes]]:
    """Give the name of what a URL leads to, and its bytes."""
    raise NotImplementedError(url)
