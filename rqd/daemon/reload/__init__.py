"""Reloads code and settings while jobs run."""
