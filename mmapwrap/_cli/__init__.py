"""The command line. Nothing in the library imports this package; `mmapwrap.__main__` starts it.

Each module imports only modules above it in this list:

- `text`: names, sizes and shares as text.
- `output`: plain lines on standard output, messages on standard error.
- `drawing`: the lines as a table, with colours and a progress bar, drawn by rich on a terminal. No
  other module imports rich.
- `files`: the files that the paths name or hold.
- `page_cache`: the resident pages of one open file: measured, brought in, removed.
- `report`: what a command says of each file, and the total.
- `commands`: the commands over files, and the exit statuses.
- `support`: the command that asks the kernel what it supports.
- `parser`: the arguments.
"""
