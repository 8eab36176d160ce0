"""The page, the Python client and example bots."""
