"""Files on their way to the object store: read safely, copied, hashed, sealed, and gone once they have arrived."""
