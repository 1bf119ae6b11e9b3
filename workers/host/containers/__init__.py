"""Containers of every runtime: ``docker``, ``cri``, and ``kernel`` for what no runtime serves.

``host_containers`` makes them one port; ``runtime_sockets`` and ``sockets`` decide which sockets can be trusted;
``unanswered_calls`` remembers a call that a daemon did not answer. Knows no runtime's library.
"""
