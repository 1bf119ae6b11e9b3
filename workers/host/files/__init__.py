"""Files of the host and of containers: reached without following a link, told apart by identity, never by name alone.

``paths`` leads from a name to a descriptor, ``roots`` to the root it begins at, ``facts`` says what is there,
``kernel`` makes the calls that Python lacks. ``quarantine`` takes files away and brings them back.
"""
