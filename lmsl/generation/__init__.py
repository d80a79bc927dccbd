"""Spans written out by a language model: prompt, grammar, decoding; Generator is a run in use."""
