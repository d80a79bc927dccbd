"""Training a stack of runs: input, loop, steps, memory, checkpoints, results."""
