"""Label Studio, over its HTTP API."""
