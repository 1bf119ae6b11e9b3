"""A real containerd for the tests, with the part of Kubernetes that makes pods played by the tests themselves."""
