"""Norms, rotation and SwiGLU of a layer as Triton kernels over rows."""
