"""Shared directories, protected mounts and disk quotas of a host.

Standard library only: this package travels to hosts inside Ansible modules.
"""
