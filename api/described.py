"""The shape of what travels, with a word on every field. Knows no shape.

A text that stands below a field is that field's description in the OpenAPI document, and from there
in the reference.
"""

from pydantic import BaseModel, ConfigDict


class Described(BaseModel):
    """Tells the OpenAPI document what each of its fields means."""

    model_config = ConfigDict(use_attribute_docstrings=True)
