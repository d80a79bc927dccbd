"""From words to what one forward sees: sub-words, windows, examples, packs without padding."""
