"""Benchmarks: mmapwrap beside its peers, interleaved in one run. `nox -s bench -- --quick`."""
