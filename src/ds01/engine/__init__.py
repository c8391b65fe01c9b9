"""The container engine: what it is told, how it is restarted without losing a container, and how that is undone.

Standard library only: this package also travels to hosts inside Ansible modules.
"""
