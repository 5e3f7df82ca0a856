"""What the error says that a memory is too small: who lives at the peak, what would help, at what
cost.
"""

from __future__ import annotations

import pytest

from npu_dialect import pipeline, text
from npu_dialect.diagnostics import CompileError

HEAD = (
    'builtin.module attributes {npu.target = #npu.target<"edge256">} {\n'
    '  func.func @main(%in: memref<SIZExi8, "dram">, %out: memref<SIZExi8, "dram">) '
    'attributes {npu.input_names = ["in"], npu.output_names = ["out"]} {\n'
)
KERNEL = 'kernel = #npu.kernel<"(t0: i8) -> i8:">'


def alloc(name: str, size: int, layer: str) -> str:
    return f'%{name} = tile.alloc {{label = "{name}"}} : memref<{size}xi8, "spm"> loc("{layer}")\n'


def load(name: str, size: int) -> str:
    kind = f'memref<{size}xi8, "dram"> to memref<{size}xi8, "spm">'
    return f'%t_{name} = tile.copy %in to %{name} : {kind} loc("l")\ntile.wait %t_{name} loc("l")\n'


def compute(source: str, destination: str, size: int) -> str:
    kind = f'memref<{size}xi8, "spm">'
    return (
        f'tile.vector ins(%{source} : {kind}) out(%{destination} : {kind}) {{{KERNEL}}} loc("l")\n'
    )


def refusal(size: int, body: str) -> str:
    source = HEAD.replace("SIZE", str(size)) + body + "func.return\n}\n}\n"
    with pytest.raises(CompileError) as caught:
        pipeline.run(text.parse(source), "tile-allocate")
    return str(caught.value)


def test_the_live_set_is_told_by_layer() -> None:
    size = 262_144
    body = alloc("a", size, "one") + alloc("b", size, "two") + alloc("c", size, "two")
    body += load("a", size) + load("b", size) + compute("a", "c", size) + compute("b", "c", size)
    assert "live at the peak: two 524,288 (b 262,144, c 262,144), one 262,144" in refusal(
        size, body
    )


def test_a_tensor_in_dram_costs_a_copy_for_each_step_that_uses_it() -> None:
    """300,032 bytes, in three steps, at 3.75 bytes a cycle."""
    size = 300_032
    body = alloc("a", size, "one") + alloc("b", size, "two")
    body += load("a", size) + compute("a", "b", size) + compute("a", "b", size)
    message = refusal(size, body)
    cost = "300,032 bytes less; 900,096 more bytes to move, 240,026 cycles"
    setting = 'memory = "dram" for it among the overrides'
    assert f"keeping a of one in dram ({setting}; {cost})" in message
    assert "or a target with 600,064 bytes of spm" in message


def test_where_no_tensor_suffices_alone_several_are_named() -> None:
    size = 400_000
    names = ("a", "b", "c")
    body = "".join(alloc(name, size, name) + load(name, size) for name in names)
    body += compute("a", "b", size) + compute("b", "c", size) + compute("c", "a", size)
    message = refusal(size, body)
    assert "1200000 bytes are live at once" in message
    assert message.count("keeping") == 2
    assert " and keeping" in message


def test_a_constant_that_is_kept_is_loaded_anew_for_each_step_that_reads_it() -> None:
    """64 bytes too many, read by three steps: loaded twice more, at 3.75 bytes a cycle."""
    size = 262_144
    ones = ", ".join(["1"] * 64)
    constant = f"#graph.blob<i8, [64], [{ones}]>"
    body = f'%w = tile.constant {{value = {constant}}} : memref<64xi8, "dram"> loc("one")\n'
    body += alloc("c", 64, "one") + load("c", 64).replace("%in", "%w")
    body += alloc("a", size, "two") + alloc("b", size, "two") + load("a", size)
    body += f'%d = tile.view %b[0 : 64] : memref<{size}xi8, "spm"> loc("l")\n'
    body += compute("a", "b", size) + compute("c", "d", 64) * 3
    cost = "64 bytes less; 128 more bytes to move, 35 cycles"
    setting = 'weights = "stripe" for it among the overrides'
    assert f"loading c of one anew for each of 3 steps ({setting}; {cost})" in refusal(size, body)


def test_views_are_no_steps() -> None:
    size = 300_032
    body = alloc("a", size, "one") + alloc("b", size, "two") + load("a", size)
    for number in range(4):
        kind = f'memref<{size}xi8, "spm"> loc("l")'
        body += f"%v{number} = tile.view %a[0 : {size}] : {kind}\n"
    body += compute("v3", "b", size)
    assert "600,064 more bytes to move" in refusal(size, body)


def test_slots_count_among_what_helps_together() -> None:
    """Two buffers of two slots in a loop: neither with one slot suffices alone."""
    size = 200_000
    body = "tile.for %i to 4 {\n"
    for name in ("a", "b"):
        body += alloc(name, size, name).replace("{label", "{depth = 2, label") + load(name, size)
    body += compute("a", "b", size) + '} loc("l")\n'
    message = refusal(size, body)
    assert "a of a in 1 slot instead of 2" in message
    assert " and b of b in 1 slot instead of 2" in message
