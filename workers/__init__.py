"""Douse: five workers that put out what a runtime detection found. The layers are told in ARCHITECTURE.md."""
