"""
Contestants that run in environments of their own (``make bench-peers``), which have neither this project nor SB3.

Each module needs its library, PyTorch, numpy, and ``eval.throughput.protocol`` and ``experience``, nothing else.
"""
