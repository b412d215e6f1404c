"""The code of the zygote and its children, whose imports every fork pays for."""
