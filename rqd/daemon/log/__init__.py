"""The daemon's log: its events, their form, and their destinations."""
