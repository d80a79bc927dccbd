"""The Triton flash-attention kernels, their launchers and tables of tiles."""
