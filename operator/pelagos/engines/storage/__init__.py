"""What stores and data volumes in folders and in S3 have in common: paths that users give, reports that pipelines leave."""
