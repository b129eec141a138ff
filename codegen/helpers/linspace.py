def linspace(start: float, stop: float, count: int) -> list[float]:
    """`count` numbers from `start` to `stop`, both included."""
    return [
        start + (stop - start) * i / (count - 1) if count > 1 else start
        for i in range(count)
    ]
