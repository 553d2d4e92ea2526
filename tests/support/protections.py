"""The protections that the tests ask for, by short names."""

from mmapwrap import Protection

NONE = Protection.none()
READ = Protection.read()
WRITE = Protection.write()
RW = Protection.read_write()
