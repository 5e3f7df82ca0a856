"""What the command line tools share: parsing of options, errors as one line, progress.

Nothing here imports xDSL or numpy, so that `--help` is fast.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
import threading
import traceback
from collections.abc import Callable, Collection, Generator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NoReturn, cast

from npu_dialect.collector import RARELY
from npu_dialect.diagnostics import Code, CompileError, Diagnostic, error
from npu_dialect.files import check_file, check_folder, target_names, unwritable
from npu_dialect.tools import mapping_options
from npu_dialect.tools.deferred import defer_methods

EXIT_ERROR = 1
EXIT_INTERRUPTED = 130
PROGRESS_AFTER = 2.0
"""Seconds before progress is shown."""


class Parser(argparse.ArgumentParser):
    """argparse, with help that keeps its layout, and errors in the form of all our errors."""

    def __init__(self, prog: str, description: str, examples: str) -> None:
        super().__init__(
            prog=prog,
            description=description,
            epilog="examples:\n" + examples,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def error(self, message: str) -> NoReturn:
        raise error(
            Code.OPTION,
            "the command line must be as --help shows",
            found=message,
            remedy=f"{self.prog} --help",
            source=self.prog,
        )


def add_model_options(parser: Parser, *, default_target: str | None = None) -> None:
    """Add --target, --shape, --state, --overrides, --custom, --exact and those of mappings."""
    default = f" (default: {default_target})" if default_target else ""
    parser.add_argument(
        "--target",
        metavar="NAME",
        default=default_target,
        help=f"the machine: {', '.join(target_names())}, or the path of a target file{default}",
    )
    parser.add_argument(
        "--shape",
        metavar="NAME=D,D,...",
        action="append",
        default=[],
        help="bind the shape of a model input with symbolic dimensions; may be repeated; "
        "ENTRY:NAME for an input of one of several entries",
    )
    parser.add_argument(
        "--state",
        metavar="IN=OUT",
        action="append",
        default=[],
        help="keep a model input on the device from run to run: output OUT is input IN of the next",
    )
    parser.add_argument(
        "--overrides",
        metavar="FILE",
        help="decisions to take from a TOML file: engine, memory and mapping by operation",
    )
    parser.add_argument(
        "--custom",
        metavar="FILE",
        action="append",
        default=[],
        help="run this file of Python before: it registers functions for custom operators "
        "(npu.custom_op)",
    )
    parser.add_argument(
        "--exact",
        action="store_true",
        help="leave to the host what a target without floats would compute in fixed point, within "
        "one step of the result",
    )
    mapping_options.add(parser)


def output_file(path: str) -> str:
    """The type of an option that names a file to write. Raises CompileError (NPU0002)."""
    check_folder(path)
    return path


def input_file(path: str) -> str:
    """The type of an option that names a file to read later. Raises CompileError (NPU0001)."""
    check_file(path)
    return path


def add_driver_options(parser: Parser) -> None:
    """Add the options of `pipeline.Options`, and --timing."""
    group = parser.add_argument_group("watching the passes")
    group.add_argument(
        "--print-ir-after-all", action="store_true", help="print the IR after every pass (stderr)"
    )
    group.add_argument("--print-ir-before", metavar="PASS", action="append", default=[])
    group.add_argument("--print-ir-after", metavar="PASS", action="append", default=[])
    group.add_argument(
        "--verify-each",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="verify after every pass",
    )
    group.add_argument("--timing", action="store_true", help="print the time of each pass (stderr)")
    group.add_argument(
        "--reproducer",
        metavar="DIR",
        default="npu-reproducer",
        help="where a failing pass leaves what reproduces it (default: %(default)s)",
    )


def add_debug_option(parser: Parser) -> None:
    """Add --debug."""
    parser.add_argument("--debug", action="store_true", help="show tracebacks")


def driver_options(args: argparse.Namespace, progress: Any = None) -> Any:
    """The `pipeline.Options` that the options of `add_driver_options` ask for."""
    from pathlib import Path

    from npu_dialect.pipeline import Options

    return Options(
        verify_each=args.verify_each,
        print_before=tuple(args.print_ir_before),
        print_after=tuple(args.print_ir_after),
        print_after_all=args.print_ir_after_all,
        reproducer=Path(args.reproducer),
        progress=progress,
    )


def load_model(args: argparse.Namespace, model: Any, target: str | None) -> Any:
    """The module of a model, or of one for each entry, with the options of `add_model_options`."""
    from npu_dialect import api

    names = cast("dict[str, str]", model) if isinstance(model, dict) else ()
    shapes = _by_entry(parse_shapes(args.shape), names)
    states = parse_pairs(args.state, "--state", "IN=OUT")
    module = api.load(
        model, target, shapes=shapes, overrides=args.overrides, states=states, exact=args.exact
    )
    mapping_options.note(args, module)
    return module


def _by_entry(shapes: dict[str, tuple[int, ...]], entries: Collection[str]) -> Any:
    """By entry where there are entries: those named ENTRY:INPUT, and those of no entry in
    particular. Names of inputs may have colons, too.
    """
    if not entries:
        return shapes
    own: dict[str, dict[str, tuple[int, ...]]] = {entry: {} for entry in entries}
    common: dict[str, tuple[int, ...]] = {}
    for name, shape in shapes.items():
        entry, _, rest = name.partition(":")
        if rest and entry in own:
            own[entry][rest] = shape
        else:
            common[name] = shape
    return {entry: common | own[entry] for entry in entries}


def parse_pairs(options: Sequence[str], option: str, form: str) -> dict[str, str]:
    """`["a=b"]` as a table. Raises CompileError (NPU0004) for what has not this form, and for a
    name that stands there twice.
    """
    found: dict[str, str] = {}
    for text in options:
        name, _, value = text.partition("=")
        if not name or not value or name in found:
            twice = f"{name} twice" if name in found else repr(text)
            raise error(Code.OPTION, f"must be {form}", found=twice, source=option)
        found[name] = value
    return found


def parse_shapes(options: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """`["x=1,3,224,224"]` as a table. Raises CompileError (NPU0004)."""
    return dict(map(_parse_shape, options))


def _parse_shape(option: str) -> tuple[str, tuple[int, ...]]:
    name, _, dims = option.rpartition("=")
    try:
        shape = tuple(int(d) for d in dims.replace("x", ",").split(",") if d)
    except ValueError:
        shape = (0,)
    if not name or min(shape, default=1) < 1:
        raise error(
            Code.OPTION,
            "must be the name of an input and positive dimensions",
            found=repr(option),
            remedy="--shape x=1,3,224,224",
            source="--shape",
        )
    return name, shape


def run_tool(parser: Parser, body: Callable[[argparse.Namespace], int], argv: Any) -> int:
    """Parse the arguments and run `body`; the exit code. Without `argv`, those of the process,
    which ends here.

    Errors become one line each on standard error and exit code 1, with the traceback only under
    `--debug`; a closed pipe and Ctrl-C end quietly.
    """
    if argv is None:
        defer_methods()
        gc.set_threshold(*RARELY)
        _leave(_run(parser, body, sys.argv[1:]))
    return _run(parser, body, list(argv))


def _leave(code: int) -> NoReturn:
    """Ends the process without taking its memory apart, which takes a tenth of a second."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # nobody is left to be told
            stream.flush()
    os._exit(code)


def _run(parser: Parser, body: Callable[[argparse.Namespace], int], arguments: list[str]) -> int:
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # tiles are too small to share out
    debug = "--debug" in arguments
    try:
        args = parser.parse_args(arguments)
        for path in getattr(args, "custom", ()):
            _run_file(path)
        code = body(args)
        sys.stdout.flush()
        return code
    except CompileError as problem:
        return _report(problem, debug)
    except BrokenPipeError:
        _silence_stdout()
        return EXIT_ERROR
    except KeyboardInterrupt:
        print(f"{parser.prog}: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except OSError as problem:
        return _report(unwritable(problem.filename or "standard output", problem), debug)
    except Exception as problem:
        return _report(_unforeseen(parser.prog, problem), debug)


def _run_file(path: str) -> None:
    """Run a file of Python, which registers the functions of custom operators."""
    from runpy import run_path

    from npu_dialect.files import read_bytes

    read_bytes(path)  # a file that is missing is reported as that
    run_path(path)


def _report(problem: CompileError, debug: bool) -> int:
    if debug:
        traceback.print_exception(problem)
    else:
        print(problem, file=sys.stderr)
    return EXIT_ERROR


def _unforeseen(tool: str, problem: Exception) -> CompileError:
    found = f"{type(problem).__name__}: {problem}".strip().splitlines()[0]
    unforeseen = error(
        Code.CRASH,
        "the tool must not fail in a way that it did not foresee",
        found=found,
        remedy="the same command with --debug for the traceback, and report it",
        source=tool,
    )
    unforeseen.__cause__ = problem
    return unforeseen


def _silence_stdout() -> None:
    """Let the interpreter's last flush go nowhere: the reader is gone."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):
        return


def show_records(records: Sequence[Diagnostic], *, remarks: bool) -> None:
    """Print warnings, and remarks if asked, one line each, on standard error."""
    from npu_dialect.diagnostics import Severity, unique

    for record in unique(records):
        if remarks or record.severity is not Severity.REMARK:
            print(record, file=sys.stderr)


def show_timing(runs: Sequence[Any]) -> None:
    """Print the time of every pass on standard error."""
    total = sum(r.seconds for r in runs) or 1e-9
    print(f"{'seconds':>9}  {'share':>6}  {'ops':>7}  pass", file=sys.stderr)
    for r in runs:
        share = f"{r.seconds / total:.1%}"
        print(f"{r.seconds:9.3f}  {share:>6}  {r.operations:7d}  {r.spec}", file=sys.stderr)
    print(f"{total:9.3f}  {'100.0%':>6}  {'':7}  total", file=sys.stderr)


@contextmanager
def progress(title: str) -> Generator[Callable[[str, int, int], None], None, None]:
    """A function to call with (step, index, number of steps).

    After two seconds, and only on a terminal, a progress bar on standard error shows it.
    """
    if not sys.stderr.isatty():
        yield lambda step, index, count: None
        return
    bar = _Bar(title)
    timer = threading.Timer(PROGRESS_AFTER, bar.start)
    timer.daemon = True
    timer.start()
    try:
        yield bar.update
    finally:
        timer.cancel()
        bar.stop()


class _Bar:
    """A rich progress bar that starts late: most work is done before it would appear."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.state = ("", 0, 1)
        self.lock = threading.Lock()
        self.shown: Any = None
        self.stopped = False

    def start(self) -> None:
        from rich.console import Console
        from rich.progress import Progress, TimeElapsedColumn

        with self.lock:
            if self.stopped:
                return
            columns = (*Progress.get_default_columns(), TimeElapsedColumn())
            self.shown = Progress(*columns, console=Console(stderr=True), transient=True)
            self.task = self.shown.add_task(self.title)
            self.shown.start()
        self.update(*self.state)

    def update(self, step: str, index: int, count: int) -> None:
        with self.lock:
            self.state = (step, index, count)
            if self.shown is not None:
                description = f"{self.title}: {step}"
                self.shown.update(self.task, description=description, completed=index, total=count)

    def stop(self) -> None:
        with self.lock:
            self.stopped = True
            if self.shown is not None:
                self.shown.stop()
