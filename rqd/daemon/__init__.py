"""The daemon: a master that watches Redis, a zygote that forks, children that run jobs."""
