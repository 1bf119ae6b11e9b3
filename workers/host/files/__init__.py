"""Files of the host and of containers: reached without following a link, identified by inode, never by name alone.

``paths`` leads from a name to a descriptor, ``roots`` to the root it begins at, ``facts`` reads what is there,
``kernel`` makes the calls that Python lacks. ``quarantine`` has the vault.
"""
