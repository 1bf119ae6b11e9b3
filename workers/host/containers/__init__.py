"""What all container runtimes have in common, whatever language they speak: which sockets are to be believed, how a
runtime that fell silent is remembered, and how the containers of several make one port.

Called by the adapters of single runtimes (``docker_engine``, ``cri``) and by bootstrap. Knows no runtime's library.
"""
