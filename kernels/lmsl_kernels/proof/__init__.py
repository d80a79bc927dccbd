"""What a kernel is held against: cases that break kernels, and tolerances derived from them."""
