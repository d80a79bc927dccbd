"""Which layers of a decoder see to the right: strings, the attention hook, the measurement."""
