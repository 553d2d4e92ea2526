"""Put the drop-in in the place of the standard `mmap`, where Python finds this as it starts."""

import sys

import mmapwrap.mmap

sys.modules["mmap"] = mmapwrap.mmap
