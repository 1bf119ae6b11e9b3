"""The tests of Douse; README.md tells which `make` target runs which."""
