"""Label Studio, through its HTTP API."""
