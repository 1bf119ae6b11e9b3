"""HTTP, and nothing but HTTP: turns requests into calls of the room and answers into JSON.

``app.build`` is called by bootstrap. ``native`` and ``compatible`` are the two faces, side by side over the same room.
Decides nothing, writes nothing, and never shows a traceback.
"""
