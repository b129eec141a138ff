"""Which operations one kernel computes together, and the text of what it computes."""
