"""The content of a snapshot of training data, as pure values."""
