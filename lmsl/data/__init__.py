"""Sentences with tags, and everything that reads, describes and writes them.

``read`` loads one split, ``splits`` those of a run; readers are in ``formats``, and what follows
from tags (schemes, label sets, decoding, metrics) in ``tags``.
"""
