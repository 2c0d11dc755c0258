"""S3 and SQS."""
