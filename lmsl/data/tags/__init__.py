"""What follows from tags: sentences, schemes, label sets, decoding, entities, metrics."""
