"""Where a token mixer looks: regions (sets of taps) and paths (orders), as values of the language."""
