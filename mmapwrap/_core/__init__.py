"""The compiled module, and the owner of mapped pages; the map of the package's modules.

From the ground up, each module imports from its own floor or those below, never from above:

1. `_mman`, the compiled module, which only this package imports; `constants`, and the values whose
   members are the kernel's numbers: `advice`, `protection`, `seals`.
2. `mmapwrap.errors` and `mmapwrap.result`: the errors that callers see.
3. `failures` translates a negative result of C into an error. `python_types` has the types that are
   written in C for Python, and `owners` the records that they own; `buffers`, `descriptors` and
   `calls` are the typed C functions: integers in, integers out; `file_length` makes files longer
   and cuts them.
4. `range_map` keeps values by range; `arguments` checks the arguments of callers; `layout` is the
   lock of one region's layout, `capacity` the room that it was given to grow into; `access`,
   `views`, `page_sizes` and `locked_ranges` remember the access that each range allows, the live
   exports, the sizes of pages and the locked pages. None of them makes a system call on pages.
   `mmapwrap._ranges` has the ranges that callers see.
5. `mapping` maps pages, borrows and unmaps them; `mapped_files` finds the files behind a region
   again; `faults` finds out why a page is missing, and `dropping` whether a lock is in the way.
6. `pages` has the handle whose owner unmaps; `changes` changes the access and the
   content of its ranges, and `growth` its size; `creation` maps new pages, and `new_files` new
   files; `construction` is the idiom of classes without a constructor, and `parts` makes one class
   for users of base classes with one subject each.

Above this package: `_regions` (the operations on pages that callers have), `_adapters` (other
libraries' types), then the products `mmapwrap._external`, `_arena`, `_mapping`, `_shared_memory`
and `mmapwrap.unsafe`, the drop-in `mmapwrap.mmap`, the public names in `mmapwrap`, and the command
line `_cli`.

An access takes one way down: a region's method asks `pages` to run one function of `calls` on a
range; C checks the range, drops the GIL and acts; `failures` and `pages` make an error of a
negative result.
"""
