"""Which string is best, and whether that is more than noise: no torch, no run in memory."""
