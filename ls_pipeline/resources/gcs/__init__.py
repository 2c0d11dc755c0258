"""Google Cloud Storage and Pub/Sub."""
