"""The gateway: the HTTP face for people and programs; reads history, writes requests.

Started by bootstrap; works against ports only. Must never sign a command and never put a bearer token on the bus.
"""
