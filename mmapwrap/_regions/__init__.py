"""The operations on mapped pages that callers have: one subject a module.

Every other module builds on `base` (place, size, lifetime, views). `content`, `search`, `numbers`
(with `scalars`, `items` and `volatile`), `advising` and `residence` are the parts of a region, and
`region` joins them to `MappedRegion`.
"""
