"""What if: the same week of requests under another policy or another division of the GPUs, decided by the same code."""
