"""Code shared by stores and data volumes in folders and in S3: paths from users, reports from pipelines."""
