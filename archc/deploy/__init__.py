"""Networks as they are deployed: what inference does not need is folded into neighbouring weights."""
