"""What host and kernel give and are told: groups, /proc, rights, systemd, a server of its own."""
