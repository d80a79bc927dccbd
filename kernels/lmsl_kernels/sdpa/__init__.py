"""Packed attention by torch, for CPUs and wherever Triton cannot run."""
