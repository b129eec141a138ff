from collections.abc import Sequence


def pair(value: int | Sequence[int]) -> list[int]:
    """One number for both axes, or one per axis, as a list of two."""
    first, second = (value, value) if isinstance(value, int) else value
    return [first, second]
