"""What an experiment ran on. Imports neither PyTorch nor Stable-Baselines3."""

import os
import platform
from pathlib import Path
from typing import Any

INSTRUCTIONS = ("avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_tile", "amx_bf16")


def cpu_facts(cpuinfo: str) -> dict[str, Any]:
    """
    :param cpuinfo: what Linux writes to ``/proc/cpuinfo``
    :return: the processor's name, and those of :data:`INSTRUCTIONS` that it has
    """
    facts: dict[str, str] = {}
    for line in cpuinfo.splitlines():
        key, _, value = line.partition(":")
        facts.setdefault(key.strip(), value.strip())
    flags = set(facts.get("flags", facts.get("Features", "")).split())
    return {
        "cpu": facts.get("model name", platform.processor() or platform.machine()),
        "instructions": [name for name in INSTRUCTIONS if name in flags],
    }


def describe_machine() -> dict[str, Any]:
    """
    :return: processor, cores, instructions, system, memory in GB (1e9 bytes), and how busy the machine is with whatever else
    """
    path = Path("/proc/cpuinfo")
    return {
        **cpu_facts(path.read_text() if path.exists() else ""),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "memory_gb": _memory_gb(),
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    }


def _memory_gb() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1)
    except (AttributeError, ValueError, OSError):  # Windows
        return None
