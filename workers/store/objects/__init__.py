"""Where gathered files go: a bucket over the S3 API, or a directory. One doorway for the S3 client library."""
