"""Plots made of characters: a sparkline in one line, a chart in several. Knows numbers only."""

from collections.abc import Sequence

_LEVELS = " ▁▂▃▄▅▆▇█"  # eighths of a line
_PLAIN_LEVELS = " .:-=+*#%"  # where the terminal's encoding has no blocks
_EIGHTHS = 8


def sparkline(values: Sequence[float], width: int, *, plain: bool = False) -> str:
    """Draw the last `width` values in one line; the highest of them fills it."""
    lines = chart(values, width, 1, plain=plain)
    return lines[0]


def chart(
    values: Sequence[float],
    width: int,
    height: int,
    *,
    top: float | None = None,
    plain: bool = False,
) -> list[str]:
    """Draw the last `width` values as columns, the newest on the right; the top line comes first.

    `top` is the value that fills all lines, the highest one shown unless told. What is not zero
    shows, however little it is.
    """
    shown = [max(0.0, value) for value in values[-width:]] if width > 0 else []
    top = max(shown, default=0.0) if top is None else top
    full = height * _EIGHTHS
    columns = [_eighths(value, top, full) for value in shown]
    levels = _PLAIN_LEVELS if plain else _LEVELS
    lines = []
    for line in reversed(range(height)):
        below = line * _EIGHTHS
        drawn = (levels[min(_EIGHTHS, max(0, column - below))] for column in columns)
        lines.append("".join(drawn).rjust(max(0, width)))
    return lines


def _eighths(value: float, top: float, full: int) -> int:
    if value <= 0 or top <= 0:
        return 0
    return max(1, min(full, round(value / top * full)))
