"""A module of jobs that can't be imported: a fault of a campaign."""

raise RuntimeError("this module can't be imported")
