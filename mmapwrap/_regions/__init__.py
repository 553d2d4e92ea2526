"""The operations on mapped pages that callers have: one subject a module.

`base` has place, size, lifetime and views. `content`, `search`, `numbers`, `arrays`, `file`,
`advising` and `residence` are the parts of a region, and `region` joins them to `MappedRegion`. The
other modules help one of them.
"""
