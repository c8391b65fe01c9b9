"""What a host is like before DS01 changes it, and what must be settled first.

Standard library only: this package also travels to hosts inside Ansible modules. What `preflight` needs runs on any
Python 3.10, so that a host with too old a Python is told so.
"""
