"""How results name the machine."""

from __future__ import annotations

import pytest

from benchmarks.machine import processor

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ("fpu sse2 avx2", "Example CPU (AVX2)"),
        ("fpu sse2 avx2 avx512f avx512bw", "Example CPU (AVX-512)"),
        ("fpu avx2 avx512f amx_tile amx_int8", "Example CPU (AMX)"),
        ("fpu sse2", "Example CPU"),
    ],
)
def test_a_processor_is_told_with_what_makes_it_fast(flags: str, told: str) -> None:
    """Of several with one name, by the widest arithmetic."""
    core = f"processor\t: 0\nmodel name\t: Example CPU\nflags\t\t: {flags}\n"
    assert processor(f"{core}\n{core}") == told


def test_a_processor_without_a_name_is_told() -> None:
    """Arm has none there."""
    assert processor("processor\t: 0\nFeatures\t: asimd\n")
