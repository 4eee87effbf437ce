"""Tasks made in the process: planted faults with labelled causes, held-out prompts and a matcher."""

from whence.bench.faults.mixing import FAULTS, VARIANTS, Task, base_rows, make_task, mix

__all__ = ["FAULTS", "VARIANTS", "Task", "base_rows", "make_task", "mix"]
