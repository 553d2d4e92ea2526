"""Other libraries' types, imported when a caller needs them."""
