"""New code, new settings, a new rqd, while jobs run."""
