"""What a snapshot of training data holds, as pure values."""
