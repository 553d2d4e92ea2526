"""The door to C, and the owner of mapped pages; the map of the house.

Imports go down only. From the ground up, each module imports from the floors below it:

1. `_mman`, the compiled module, which only this room imports; `constants`, and the values whose
   members are the kernel's numbers: `advice`, `protection`, `seals`.
2. `mmapwrap.errors`, `mmapwrap.result` and `mmapwrap._ranges`: what callers see.
3. `failures` translates a negative result of C into an error. `python_types` has what is written in
   C for Python; `buffers`, `descriptors` and `calls` are the typed C functions: integers in,
   integers out.
4. `range_map` keeps values by range; `arguments` checks what callers give; `layout` is the lock of
   one region's layout; `access`, `views` and `locked_ranges` remember what each range allows, which
   exports live and what is locked. None of them makes a system call on pages.
5. `mapped_files` finds the files behind a region again; `faults` says why a page is missing.
6. `pages` owns the handle whose destructor unmaps; `changes` changes what its ranges allow and
   hold; `creation` maps new pages; `construction` is the idiom of classes without a constructor.

Above this room: `_regions` (what callers do with pages), `_adapters` (other libraries' types), then
the products `mmapwrap._external`, `_arena`, `_mapping`, `_shared_memory` and `mmapwrap.unsafe`, the
face `mmapwrap`, and the command line `_cli`.

An access goes down one flight of stairs: a region's method asks `pages` to run one function of
`calls` on a range; C checks the range, drops the GIL and acts; a negative result comes back and
`failures` and `pages` make an error of it.
"""
