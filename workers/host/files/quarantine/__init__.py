"""Files taken away, and brought back exactly as they were. The one doorway of zstandard.

``vault`` examines files, keeps manifests and opens the handles: ``quarantine_handle`` (on top of ``parking_directory``)
has the steps of a quarantine, ``restore_handle`` those of a return. Both keep content in ``vault_directory``, through
``compression``.
"""
