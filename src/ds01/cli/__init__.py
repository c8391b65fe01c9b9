"""The command line: thin faces of the packages below."""
