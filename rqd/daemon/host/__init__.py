"""Host and kernel: control groups, /proc, rights, systemd, and a server of the daemon's own."""
