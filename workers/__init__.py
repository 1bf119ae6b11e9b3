"""Douse: five workers that put out what a runtime detection found. The layers are told in ARCHITECTURE.md."""

__version__ = "0.1.0"
