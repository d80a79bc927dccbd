"""Many strings: the summary of a sweep, one-shot, and dropping those that cannot win."""
