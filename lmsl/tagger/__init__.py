"""A decoder that labels: loading it, putting it together, its answers; Labeler is a run in use."""
