"""What is told of the machine."""

import pytest

from eval.machine import cpu_facts, describe_machine

CPUINFO = {
    "a processor with bfloat16": (
        "processor\t: 0\nmodel name\t: Fast CPU @ 3 GHz\nflags\t\t: fpu avx2 fma avx512f avx512_bf16 amx_bf16\n\n"
        "processor\t: 1\nmodel name\t: Fast CPU @ 3 GHz\nflags\t\t: fpu avx2\n",
        "Fast CPU @ 3 GHz",
        ["avx2", "fma", "avx512f", "avx512_bf16", "amx_bf16"],
    ),
    "a processor without": ("model name : Old CPU\nflags : fpu sse sse2\n", "Old CPU", []),
}


@pytest.mark.parametrize(("text", "name", "instructions"), CPUINFO.values(), ids=CPUINFO.keys())
def test_the_processor_is_named_with_its_instructions(text: str, name: str, instructions: list[str]) -> None:
    assert cpu_facts(text) == {"cpu": name, "instructions": instructions}


def test_where_linux_does_not_say_python_names_the_processor() -> None:
    facts = cpu_facts("")
    assert facts["cpu"] and facts["instructions"] == []


def test_this_machine_is_described() -> None:
    facts = describe_machine()
    assert facts["cpu"] and facts["cores"] >= 1 and facts["python"].startswith("3.")
