"""Writes the API reference, as Markdown.

    python -m penstock.api.reference > docs/api.md

Knows where the document comes from; how the page looks: see `reference_page`.
"""

import tempfile

from ..jobs.settings import Settings
from .app import create_app
from .reference_page import reference


def _main() -> None:
    with tempfile.TemporaryDirectory() as data:
        app = create_app(Settings(data=data, redis_url="redis://127.0.0.1:1/0"))
        print(reference(app.openapi()), end="")


if __name__ == "__main__":
    _main()
