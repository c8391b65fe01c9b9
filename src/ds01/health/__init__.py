"""Checks of a live host: they try the rules out and read the kernel, they do not look for files and call it proof."""
