"""Model servers as InferenceServices of KServe."""
