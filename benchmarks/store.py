"""The samples as pyperf keeps them, and what pyperf says of the machine."""

import importlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.case import Unit
from benchmarks.result import Result

# pyperf has no types. Its own Runner measures one thing after the other and cannot interleave; so
# it keeps and describes the samples, and reads them: `python -m pyperf stats benchmarks.json`.
pyperf: Any = importlib.import_module("pyperf")

# Of what pyperf knows these say what was measured where; its list has the host's name as well.
KEPT = (
    "perf_version",
    "date",
    "platform",
    "cpu_model_name",
    "cpu_count",
    "cpu_freq",
    "cpu_config",
    "aslr",
    "load_avg_1min",
    "python_implementation",
    "python_version",
    "python_compiler",
    "timer",
)
# pyperf's name of a unit, and how many of them ours is; its integers are percent here.
UNITS = {Unit.SECONDS: ("second", 1), Unit.BYTES: ("byte", 1), Unit.SHARE: ("integer", 100)}
SMALLEST = 1e-9  # stands for nothing, which pyperf does not take


def metadata() -> dict[str, Any]:
    """Describe the machine and the Python."""
    found = pyperf.Benchmark([pyperf.Run([1.0], metadata={"name": "nothing"})]).get_metadata()
    return {key: found[key] for key in KEPT if key in found}


def save(results: Iterable[Result], path: Path, about: dict[str, Any]) -> None:
    """Write the samples: a benchmark for each case and peer; equal places are of one round."""
    benchmarks: list[Any] = []
    for result in results:
        names = ["mmapwrap", *(peer.name for peer in result.case.peers)]
        for name, samples in zip(names, result.samples, strict=True):
            described = {**about, "name": f"{result.case.name}: {name}"}
            described["unit"], factor = UNITS[result.case.unit]
            values = [max(factor * value, SMALLEST) for value in samples]
            run = pyperf.Run(values, metadata=described, collect_metadata=False)
            benchmarks.append(pyperf.Benchmark([run]))
    pyperf.BenchmarkSuite(benchmarks).dump(str(path), replace=True)
