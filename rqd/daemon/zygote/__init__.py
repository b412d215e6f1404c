"""What runs in the zygote and its children, and is paid at every fork."""
