"""A sweep as one page to look at: figures, tables, and the sentences in which strings differ."""
