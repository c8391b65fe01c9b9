"""GPUs and their parts: what there is, what it does, who uses it, whether it is well.

Everything comes from NVML, through one `nvml.Session`. Importing this package or `model` loads no NVML.
"""
