"""What an action acts on: the processes, containers, files and networks of this machine, and the evidence it gathers.

Each folder has a ``ports.py``, which is all that actions know of it, and the doorways that implement it.
"""
