"""Everything a training run can be told, and the recipes that set several of it at once."""
