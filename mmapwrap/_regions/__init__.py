"""What callers can do with mapped pages: one subject a module.

`base` (place, size, lifetime, views) is what each of the others builds on: `content`, `search`,
`numbers` (with `scalars` and `volatile`), `advising` and `residence` are the parts of a region,
and `region` joins them to `MappedRegion`.
"""
