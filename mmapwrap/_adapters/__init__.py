"""Types of other libraries, imported when a caller needs them."""
