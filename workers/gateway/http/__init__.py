"""HTTP and nothing else: turns requests into calls of ``GatewayIntake`` and the history store, and results into JSON.

``app.build`` is called by wiring. ``native`` and ``compatible`` are the two APIs, side by side over the same intake.
Decides nothing, writes nothing, and never shows a traceback.
"""
