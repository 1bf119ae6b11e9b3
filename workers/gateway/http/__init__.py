"""HTTP, and nothing but HTTP: turns requests into calls of the room and answers into JSON.

``app.build`` is called by bootstrap. ``native`` is the native face; a compatible face stands beside it later. Decides
nothing, writes nothing, and never shows a traceback.
"""
