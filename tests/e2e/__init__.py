"""The product as a person uses it."""
