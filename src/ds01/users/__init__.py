"""People on a host: accounts or directory people, groups, keys, homes, scratch, quotas, and leaving.

Standard library only: this package travels to hosts inside Ansible modules.
"""
