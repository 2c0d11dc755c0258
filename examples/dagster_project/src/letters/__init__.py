"""Letters to a shop: people label their topics, and a classifier learns from the labels."""
