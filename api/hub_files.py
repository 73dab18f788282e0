"""Rows of the Hugging Face hub, and of its data sets in memory. Knows their packages when asked.

hf://datasets/<org>/<name>/<path of a file>            the file as it is
hf://datasets/<org>/<name>?split=test&config=main      the rows of a split
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx2

from .arrow_files import pieces_of
from .client_errors import InvalidInput
from .foreign_bytes import check_size, whole
from .row_lines import json_lines
from .tables import need

_PIECE_BYTES = 1 << 20
_BATCH_ROWS = 1_000
_FAULTS = (OSError, ValueError, httpx2.HTTPError)
_FORM = "hf://datasets/<org>/<name>, with /<path of a file> or ?split=<name> behind it"


def is_dataset(rows: object) -> bool:
    """Whether rows are one of the classes of the package `datasets`."""
    return type(rows).__module__.partition(".")[0] == "datasets"


def dataset_pieces(dataset: Any) -> tuple[str, Iterator[bytes]]:
    """Give the name of a file with the rows of a data set, and its pieces.

    Raises:
        InvalidInput: it is several, or a column cannot be sent.
    """
    if hasattr(dataset, "keys"):
        splits = ", ".join(map(repr, dataset))
        raise InvalidInput(f"pass one split of the data set, as in dataset[…]; it has {splits}")
    if dataset.features is None:  # nobody has said yet what its columns are
        return "rows.jsonl", json_lines(dataset)
    batches = dataset.with_format("arrow").iter(batch_size=_BATCH_ROWS)
    return "rows.parquet", pieces_of(batches)


@contextmanager
def open_hub_file(url: str) -> Iterator[tuple[str, Iterator[bytes]]]:
    """Begin to fetch a file, or a split, of the hub.

    Raises:
        InvalidInput: there is none, or it cannot be read.
        MissingPackage: huggingface_hub, or datasets for a split, is not installed.
    """
    parts = urlsplit(url)
    path = PurePosixPath(parts.path.lstrip("/"))
    if parts.netloc != "datasets" or len(path.parts) < 2:
        raise InvalidInput(f"cannot read {url!r:.100}: it must look like {_FORM}")
    if len(path.parts) == 2:
        name, pieces = dataset_pieces(_split_of(str(path), dict(parse_qsl(parts.query)), url))
        yield name, whole(pieces, f"{url!r:.200}")
        return
    if behind := parts.query or parts.fragment:
        raise InvalidInput(
            f"cannot read {url!r:.200}: a file takes no options, got {behind!r:.80}; its version "
            "stands behind the name of the data set, as in <name>@<revision>/…"
        )
    hub = need("huggingface_hub", "reading hf://")
    try:
        file = hub.HfFileSystem().open(f"datasets/{path}", "rb")
    except _FAULTS as error:
        raise InvalidInput(f"cannot read {url!r:.200}: {error}") from error
    with file:
        check_size(file.size or 0, f"{url!r:.200}")
        pieces = iter(lambda: file.read(_PIECE_BYTES), b"")
        yield path.name, whole(pieces, f"{url!r:.200}")


def _split_of(name: str, options: dict[str, str], url: str) -> Any:
    datasets = need("datasets", "reading a split of hf://")
    unknown = set(options) - {"split", "config"}
    if unknown:
        raise InvalidInput(f"{url!r:.200} may say split and config, got {min(unknown)!r}")
    name, _, revision = name.partition("@")
    try:
        found = datasets.load_dataset(
            name, options.get("config"), revision=revision or None, streaming=True
        )
    except _FAULTS as error:
        raise InvalidInput(f"cannot read {url!r:.200}: {error}") from error
    split = options.get("split") or ("train" if "train" in found else "")
    if not split and len(found) == 1:
        [split] = found
    if split not in found:
        known = ", ".join(map(repr, found))
        raise InvalidInput(f"{url!r:.200} must name a split, as in ?split=…; there are {known}")
    return found[split]
