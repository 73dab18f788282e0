"""Placeholder."""

from typing import Any


class CpuOps:
    @staticmethod
    def supports(*a: Any) -> bool:
        return False

    @staticmethod
    def load() -> Any:
        return None
