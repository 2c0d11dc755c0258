"""The demo: servers, samples, and a walk through the pipeline."""
