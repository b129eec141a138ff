"""Random whole specs: what writes them, and what they are held to."""
