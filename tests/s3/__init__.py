"""S3 for the tests: a real server with real policies, a proxy that breaks the way to it, and a stub that lies."""
