"""Random programs over the library, held against a plain-Python model; `python -m` runs them."""
