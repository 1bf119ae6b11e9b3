"""What the native face shows: frozen values whose docstrings are the descriptions in the OpenAPI document.

One module a resource, as the routes are; written as JSON by ``http``. Times are RFC 3339 with nine digits, None where
not reached. Whole numbers that a double cannot hold travel as text.
"""
