"""What a decoder's linear layers become: NF4, LoRA for a stack of runs, heads, dropout."""
