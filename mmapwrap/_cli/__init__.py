"""The parts of the command line; nothing in the library imports them."""
