"""The daemon's log: what is told, in which form, and where it goes."""
