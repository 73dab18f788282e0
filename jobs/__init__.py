"""The queue: from a submitted file to landed Parquet rows, over Celery and Redis."""
