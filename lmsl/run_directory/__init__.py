"""What a run leaves on disk: its description, files, tensors, lock and model card."""
