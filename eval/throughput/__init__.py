"""
The benchmark behind ``python -m eval throughput``: how fast this project is, beside what else there is, on the same work.

Each contestant runs in a process of its own (``workers``, and ``peers`` in the interpreter of their own environments),
speaks the lines of ``protocol``, builds, warms up, and waits to be measured. ``rounds`` lets them measure in turn, one at a
time, the order rotated from round to round; ``stats`` makes medians and ratios of it, ``report`` and ``plots`` show them.
"""
