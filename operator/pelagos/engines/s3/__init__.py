"""Objects and volumes in S3-compatible storage."""
