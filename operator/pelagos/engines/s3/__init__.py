"""Objects and data volumes in S3-compatible storage."""
