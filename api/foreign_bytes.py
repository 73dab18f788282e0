"""Bytes from elsewhere as they are sent on: counted, bounded, whole or not at all.

Knows neither where they come from nor where they go.
"""

from collections.abc import Iterable, Iterator

from .client_errors import InvalidInput, PenstockError

MAX_BYTES = 64 << 30


def check_size(num_bytes: int, shown: str) -> None:
    """Refuse more than goes through this process.

    Raises:
        InvalidInput: it is too large; `shown` says what.
    """
    if num_bytes > MAX_BYTES:
        raise InvalidInput(
            f"cannot read {shown}: it has more than {MAX_BYTES:,} bytes; put it where the "
            "server can read it, as s3://…, or submit it in parts"
        )


def whole(pieces: Iterable[bytes], shown: str) -> Iterator[bytes]:
    """Pass pieces on to the last one.

    Raises:
        InvalidInput: they break off, or become too many; `shown` says of what.
    """
    num_bytes = 0
    coming = iter(pieces)
    while True:
        try:
            piece = next(coming, None)
        except PenstockError:
            raise
        except Exception as error:  # each place, and each version of its package, has its own
            raise InvalidInput(
                f"cannot read {shown}: it broke off after {num_bytes:,} bytes ({error}); nothing "
                "was submitted, try again"
            ) from error
        if piece is None:
            return
        num_bytes += len(piece)
        check_size(num_bytes, shown)
        if piece:
            yield piece
