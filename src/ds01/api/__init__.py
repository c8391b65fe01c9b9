"""What people may ask of DS01 and do with it: the resources of `/ds01/v1`, as functions.

The gateway answers requests with them, and the commands of root call them in place: one implementation of each.
"""
