"""The commands of `npu-run --break`: from a terminal, or from standard input, one a line."""

from __future__ import annotations

import cmd
import sys
from typing import IO, TYPE_CHECKING

import numpy as np

from npu_dialect.diagnostics import CompileError

if TYPE_CHECKING:
    from npu_dialect.runtime.debugger import Debugger
    from npu_dialect.runtime.executor import Step

AROUND = 3
"""Instructions listed before and after the latest one."""
INTRODUCTION = "help lists the commands; an empty line repeats the last one"


class Shell(cmd.Cmd):
    """Commands on a debugger. Each method's text is its help."""

    prompt = "(npu) "

    def __init__(self, debugger: Debugger, source: IO[str], out: IO[str]) -> None:
        super().__init__(stdin=source, stdout=out)
        self.use_rawinput = source is sys.stdin and source.isatty()
        self.prompt = self.prompt if self.use_rawinput else ""
        self.intro = INTRODUCTION if self.use_rawinput else None
        self.debugger = debugger

    def onecmd(self, line: str) -> bool:
        """One command; what is wrong with it is said, and the program stands where it was."""
        try:
            return super().onecmd(line)
        except CompileError as problem:
            self.say(str(problem))
            return False

    def say(self, text: str) -> None:
        """A line of output."""
        self.stdout.write(f"{text}\n")

    def default(self, line: str) -> None:
        if line != "EOF":
            self.say(f"no command {line.split()[0]!r}; {INTRODUCTION}")

    # --- going on ---

    def do_continue(self, _: str) -> bool:
        """continue: go on to the next stop, or to the end"""
        stop = self.debugger.resume()
        if stop is None:
            self.say("end of the program")
            return True
        self.say(f"stopped at {stop.reason}")
        self.say(described(stop.step))
        return False

    do_c = do_continue

    def do_step(self, count: str) -> bool:
        """step [N]: execute one instruction, or N"""
        return self._show_step(self.debugger.advance(_number(count, 1)))

    do_s = do_step

    def do_next(self, _: str) -> bool:
        """next: go on to the first instruction of another layer"""
        before = self.debugger.step
        step = self.debugger.advance()
        while step and before and step.record.layer == before.record.layer:
            step = self.debugger.advance()
        return self._show_step(step)

    do_n = do_next

    def _show_step(self, step: Step | None) -> bool:
        self.say("end of the program" if step is None else described(step))
        return step is None

    def do_quit(self, _: str) -> bool:
        """quit: leave the program where it is"""
        return True

    do_q = do_quit

    def do_EOF(self, _: str) -> bool:  # noqa: N802 - the name that cmd gives it
        """The end of the commands: the program goes on to its end."""
        while not self.do_continue(""):
            pass
        return True

    # --- stops ---

    def do_break(self, place: str) -> None:
        """break LAYER or #N: stop after the first instruction of a layer, or after instruction N"""
        self.debugger.stop_at(place.strip())

    do_b = do_break

    def do_watch(self, place: str) -> None:
        """watch SPACE LOW HIGH: stop after every write to these bytes (watch spm 0x100 0x200)"""
        parts = place.replace(":", " ").split()
        if len(parts) != 3 or not all(map(_is_number, parts[1:])):
            self.say("must be: watch SPACE LOW HIGH")
            return
        watch = self.debugger.watch(parts[0], int(parts[1], 0), int(parts[2], 0))
        self.say(f"watching {watch}")

    # --- looking ---

    def do_print(self, name: str) -> None:
        """print WHAT: a field of the latest instruction (output), a tensor or port by name, or
        SPACE:ADDRESS:DTYPE:DIMS (spm:0x40:i8:8x16)
        """
        place = self.debugger.find(name.strip())
        array = self.debugger.array(place)
        dims = " x ".join(map(str, place.dims))
        self.say(f"{place.space} {place.address:#x} {place.dtype} {dims}")
        self.say(np.array2string(array, threshold=64, edgeitems=3))
        if array.size and array.dtype.kind in "iuf":
            self.say(
                f"from {array.min()} to {array.max()}, mean {array.mean(dtype=np.float64):.6g}"
            )

    do_p = do_print

    def do_where(self, _: str) -> None:
        """where: the latest instruction, its layer, the model's nodes behind it"""
        step = self.debugger.step
        if step is None:
            self.say("before the first instruction")
            return
        self.say(described(step))
        for source, lines in zip(step.record.sources, step.record.lines, strict=False):
            self.say(f"  {source}{''.join(f' ({line})' for line in lines)}")
        for name, role, operand in step.instruction.places():
            dims = " x ".join(map(str, operand.dims))
            self.say(
                f"  {role} {name}: {operand.space} {operand.address:#x} {operand.dtype} {dims}"
            )

    def do_list(self, around: str) -> None:
        """list [N]: instructions around the latest one"""
        executed, debug = self.debugger.program.executed, self.debugger.program.debug
        number = -1 if self.debugger.step is None else self.debugger.step.number
        reach = _number(around, AROUND)
        for k in range(max(0, number - reach), min(len(executed), number + reach + 1)):
            index, op = executed[k]
            mark = ">" if k == number else " "
            self.say(f"{mark} #{index} {op.engine} {op.name} ({debug[index].layer})")

    do_l = do_list

    def do_tensors(self, _: str) -> None:
        """tensors: the tensors of the model that are complete"""
        for name, binding in self.debugger.tensors.items():
            self.say(f"{name} {binding.type} in {binding.operand.space}")


def described(step: Step) -> str:
    """An instruction on one line."""
    op = step.instruction
    waits = ", ".join(f"{w.count} of {w.engine}" for w in op.wait_list)
    waited = f"; waited for {waits}" if waits else ""
    return f"#{step.index} {op.engine} {op.name} ({step.record.layer}){waited}"


def _is_number(text: str) -> bool:
    try:
        int(text, 0)
    except ValueError:
        return False
    return True


def _number(text: str, otherwise: int) -> int:
    return int(text, 0) if _is_number(text.strip() or "x") else otherwise


def run(
    debugger: Debugger,
    source: IO[str] | None = None,
    out: IO[str] | None = None,
    *,
    begin: bool = True,
) -> None:
    """Commands until the program or they end; without `begin` only from the first stop on."""
    shell = Shell(debugger, source or sys.stdin, out or sys.stdout)
    if begin or not shell.onecmd("continue"):
        shell.cmdloop()
