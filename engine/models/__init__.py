"""Decoder architectures, each a description over one shared decoder."""
