"""Run a program on the simulated NPU, or a model at any level of the compiler."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from npu_dialect.diagnostics import Code, CompileError, error
from npu_dialect.tools import (
    common,
    debug_options,
    mapping_options,
    profile_options,
    quantize_options,
)

if TYPE_CHECKING:
    from xdsl.dialects.builtin import ModuleOp

    from npu_dialect.api import Level
    from npu_dialect.ports import Array, Inputs, Port
    from npu_dialect.runtime.program import Program
    from npu_dialect.runtime.run import Run
    from npu_dialect.tools.datasets import DataSet

EXAMPLES = """\
  npu-run model.npu --input x.npy                     one input
  npu-run model.npu --input a=a.npy --input b=b.npy   several, by name (or one .npz with all)
  npu-run model.npu --random 0 --trace trace.json     random inputs; a trace for a trace viewer
  npu-run model.npu --timing --report r.html          time and energy alone, without inputs
  npu-run model.npu --timing --frames-per-second 30   the best operating point at a rate
  npu-run model.npu --timing --baseline before.json   what became faster or slower since
  npu-run model.npu --input x.npy --output out.npz    keep the outputs
  npu-run model.npu --input x.npy --seed 7            another order that the waits permit
  npu-run model.npu --input images/ --labels labels.npy --output out.npz
                                                      a data set: files of one sample each
  npu-run model.npu --input images.npz --jobs 2       or arrays with a first dimension of samples
  npu-run rnn.npu --input frames/ --sequence          the steps of one stream: states are kept
  npu-run llm.npu --entry decode --random 0 --initial past=past.npy --save-states after.npz
                                                      one of several entries, from given states
  npu-run model.npu --random 0 --tier plain           every instruction by its definition
  npu-run model.npu --random 0 --break conv1          stop there; commands from the terminal
  npu-run model.npu --input x.npy --sanitize          what is suspicious about a run
  npu-run model.onnx --target edge256 --level tile --input x.npy
                                                      compile in memory, run at a level
  npu-run model.onnx --compare --input x.npy          all levels and onnxruntime side by side
  npu-run model.onnx --compare --quantize int8 --calibrate samples.npz --input x.npy
                                                      layer by layer, what quantization costs
  npu-run model.npu --model model.onnx --compare --input x.npy
                                                      the same, with the program of the file
"""

DATA_SETS = """\
--input names many samples where it is one of
  FOLDER           .npy files, each one sample of the only input; sorted by name
  FILE.npz, .npy   arrays with a first dimension of samples, and then those of the input
  FOLDER           for several inputs: NAME.npy with a first dimension of samples, or a folder
                   NAME with a file for each sample; or give --input NAME=... for each
They are read one at a time. --output then holds arrays with a first dimension of samples."""

TIERS = ("auto", "compiled", "torch", "plain")
"""Those of runtime/tiers.py, which is not imported for --help."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool; the exit code."""
    return common.run_tool(_parser(), _run, argv)


def _parser() -> common.Parser:
    parser = common.Parser("npu-run", __doc__ or "", EXAMPLES)
    add, output = parser.add_argument, common.output_file
    add("program", help=".npu; or .onnx, .pt2, .tflite or .mlir, compiled in memory")
    add(
        "--input",
        action="append",
        default=[],
        metavar="[NAME=]FILE",
        help=".npy or .npz; or a data set, see below",
    )
    add("--random", type=int, metavar="SEED", help="random inputs instead")
    add("--output", metavar="FILE", type=output, help="write the outputs to this .npz")
    add("--level", choices=("graph", "tile", "npu"), default="npu", help="default: npu")
    add("--model", metavar="FILE", help="the model of a .npu, for --level and --compare")
    common.add_model_options(parser)
    add(
        "--dump",
        metavar="FILE",
        type=output,
        help="write the tensors between layers at --level to this .npz",
    )
    add("--entry", metavar="NAME", help="the entry to run (default: main, or the one that fits)")
    add(
        "--initial",
        action="append",
        default=[],
        metavar="[NAME=]FILE",
        help="contents of states before the run, .npy or .npz, instead of those of the program",
    )
    add(
        "--save-states",
        metavar="FILE",
        type=output,
        help="write what the states are after the run to this .npz",
    )
    add("--compare", action="store_true", help="run all levels and onnxruntime; where they differ")
    _add_tier_options(parser)
    add("--seed", type=int, metavar="N", help="choose the order of execution at random")
    quantize_options.add(parser)
    profile_options.add(parser)
    debug_options.add(parser)
    common.add_debug_option(parser)
    return parser


def _add_tier_options(parser: common.Parser) -> None:
    tiers = parser.add_argument_group(
        "how to simulate",
        "All tiers give the same bits, and cycles and energy do not depend on them. What the "
        "compiled tier\nhas no code for runs in the plain one; the output says what, and why.",
    )
    add = tiers.add_argument
    add(
        "--tier",
        choices=TIERS,
        default="auto",
        help="compiled: native code (needs llvmlite); torch: products of integers by torch; plain: "
        "every instruction by its definition. Default: auto, which is compiled where that is "
        "available and the work is worth the translation, else plain",
    )
    add("--strict", action="store_true", help="compiled without shortcuts: every copy is made")
    add(
        "--threads", type=int, default=1, metavar="N", help="that share an instruction (default: 1)"
    )
    samples = parser.add_argument_group("data sets", DATA_SETS)
    add = samples.add_argument
    add("--jobs", type=int, metavar="N", help="samples at once (default: on all cores)")
    add(
        "--sequence",
        action="store_true",
        help="samples are the steps of one stream: states stay from one to the next (default: they "
        "start anew for each)",
    )
    add("--labels", metavar="FILE", help="a .npy of the right classes: print the top-1 accuracy")


def _run(args: argparse.Namespace) -> int:
    _check(args)
    if args.compare:
        return _compare(args)
    if args.timing:
        return _time(args)
    if args.dump:
        _dump(args)
    if args.level != "npu":
        return _run_level(args)
    return _simulate(args, _chosen(args, _program(args)))


def _check(args: argparse.Namespace) -> None:
    """Refuse combinations that mean nothing."""
    profile_options.check(args)
    debug_options.check(args)
    if args.input and args.random is not None:
        from npu_dialect.tools.inputs import refusal

        raise refusal("both", "npu-run")
    if _is_program(args.program) and not args.model and (args.compare or args.level != "npu"):
        raise error(
            Code.OPTION,
            "--level and --compare must know the model, a .npu holds instructions only",
            found="no --model",
            remedy="--model model.onnx",
            source="npu-run",
        )
    if args.compare or args.level != "npu":
        _check_other_level(args)
    if _is_program(args.program) and not args.model:
        _check_compiled(args)
    if quantize_options.asked(args) and _is_program(args.program):
        rule = "--quantize must be for a model; a .npu is compiled already"
        remedy = f"--compare --model model.onnx, or npu-compile --quantize {args.quantize}"
        raise error(Code.OPTION, rule, found=args.program, remedy=remedy, source="npu-run")


def _check_compiled(args: argparse.Namespace) -> None:
    """Refuse for a .npu what decides how a model is compiled."""
    names = ("shape", "state", "overrides", "exact")
    asked = [f"--{name}" for name in names if getattr(args, name)] + mapping_options.asked(args)
    if asked:
        rule = f"{', '.join(asked)} must be for a model; a .npu is compiled already"
        raise error(Code.OPTION, rule, found=args.program, remedy="npu-compile with that, or the "
                    "model instead of the program", source="npu-run")  # fmt: skip


def _check_other_level(args: argparse.Namespace) -> None:
    """Refuse what only the simulation of a program knows."""
    found = "--compare" if args.compare else f"--level {args.level}"
    rules = {
        "--trace, --report and what else tells of time must be asked of a run at level npu, which "
        "alone takes some": [n for n in profile_options.asked(args) if n not in _reported(args)],
        "--tier, --strict and --threads must be asked of a run at level npu alone": (
            args.tier != "auto" or args.strict or args.threads != 1
        ),
        "--labels, --jobs and --sequence must be for a data set, which runs at level npu alone": (
            args.labels or args.jobs is not None or args.sequence
        ),
    }
    for rule, asked in rules.items():
        if asked:
            raise error(Code.OPTION, rule, found=found, source="npu-run")


def _reported(args: argparse.Namespace) -> tuple[str, ...]:
    """What a comparison of a quantized model with its floats can write."""
    is_quantized = args.quantize is not None or _is_program(args.program)
    return ("--report",) if args.compare and is_quantized else ()


def _check_no_report(args: argparse.Namespace) -> None:
    if args.report:
        rule = "--report with --compare must be of a model that is quantized"
        raise error(Code.OPTION, rule, found="one that is not", remedy="--quantize int8",
                    source="npu-run")  # fmt: skip


def _is_program(path: str) -> bool:
    return path.endswith(".npu")


def _program(args: argparse.Namespace) -> Program:
    from npu_dialect import api
    from npu_dialect.runtime.program import Program

    if _is_program(args.program):
        program = Program.load(args.program)
        if args.target and api.find_target(args.target).digest != program.target_digest:
            raise error(
                Code.PROGRAM_TARGET,
                "a program must run on the target that it was compiled for",
                found=f"{program.target}, and --target {args.target}",
                remedy="compiling the model for that target",
                source=args.program,
            )
        return program
    with common.progress("npu-compile") as progress:
        options = api.Options(progress=progress)
        module = common.load_model(args, args.program, args.target)
        quantize_options.quantize(args, module, options)
        api.lower(module, options=options)
        return api.assemble(module)


def _chosen(args: argparse.Namespace, program: Program) -> Program:
    """The entry that is named, or the one that the inputs fit: a single run's, or a data set's."""
    from npu_dialect.tools.inputs import load_inputs

    if args.entry or len(program.entries) == 1 or not args.input:
        return program.entry(args.entry)
    fitting = [n for n in program.entries if _is_data_set(args.input, program.entry(n).inputs)]
    if len(fitting) == 1 and "main" not in program.entries:
        return program.entry(fitting[0])
    try:
        inputs = load_inputs(args.input)
    except CompileError:  # a data set, or an error that is reported when inputs are read
        return program.entry()
    return program.entry(program.entry_for(inputs))


def _is_data_set(options: Sequence[str], ports: Sequence[Port]) -> bool:
    from npu_dialect.tools.datasets import load_data_set

    try:
        return load_data_set(options, ports) is not None
    except CompileError:
        return False


def _inputs(args: argparse.Namespace, ports: Sequence[Port]) -> Inputs:
    from npu_dialect.tools.inputs import given

    return given(args, ports, "npu-run")


def _time(args: argparse.Namespace) -> int:
    """Time and energy without a run."""
    from npu_dialect.runtime.run import Run

    program = _program(args).entry(args.entry)
    run = profile_options.at_point(args, Run.without_data(program))
    profile_options.save(args, run)
    if args.json:
        print(json.dumps(profile_options.to_json(args, run), indent=2))
    else:
        profile_options.show(args, run)
    return 0


def _simulate(args: argparse.Namespace, program: Program) -> int:
    from npu_dialect import api
    from npu_dialect.diagnostics import collect
    from npu_dialect.tools.datasets import load_data_set

    samples = load_data_set(args.input, program.inputs)
    if samples is not None:
        return _simulate_all(args, program, samples)
    inputs = _inputs(args, program.inputs)
    _check_single(args)
    if args.stops:
        return debug_options.debug(args, program, inputs, _initial(args))
    if args.sanitize:
        return debug_options.sanitize(args, program, inputs, _initial(args))
    with common.progress("npu-run"), collect() as records:
        run = api.simulate(
            program,
            inputs,
            state=_initial(args),
            trace=bool(args.trace),
            seed=args.seed,
            tier=args.tier,
            strict=args.strict,
            threads=args.threads,
        )
    common.show_records(records, remarks=True)
    run = profile_options.at_point(args, run)
    profile_options.save(args, run)
    _finish(args, run.outputs, run.state, run)
    return 0


def _initial(args: argparse.Namespace) -> dict[str, Array]:
    """The contents of states that the command line gives. Raises CompileError (NPU0004)."""
    from npu_dialect.tools.inputs import load_inputs

    if not args.initial:
        return {}
    found = load_inputs(args.initial, "--initial")
    if isinstance(found, Mapping):
        return dict(found)
    raise error(
        Code.OPTION,
        "contents of states must be given by name",
        found=f"{len(found)} without",
        remedy="--initial h=h.npy",
        source="--initial",
    )


def _check_states(given: Mapping[str, Array], known: Sequence[str]) -> None:
    for name in given:
        if name not in known:
            rule = f"a state must be one of the model's ({', '.join(known) or 'none'})"
            raise error(Code.INPUT_NAMES, rule, found=name, source="--initial")


def _simulate_all(args: argparse.Namespace, program: Program, samples: DataSet) -> int:
    from npu_dialect.diagnostics import collect
    from npu_dialect.tools import tables
    from npu_dialect.tools.sample_run import run_samples

    if args.save_states:
        rule = "--save-states must be for a single sample"
        raise error(Code.OPTION, rule, found=f"{len(samples)} samples", source="npu-run")
    with common.progress("npu-run") as progress, collect() as records:
        summary = run_samples(args, program, samples, _initial(args), progress)
    common.show_records(records, remarks=True)
    run = profile_options.at_point(args, summary.run)
    profile_options.save(args, run)
    if args.json:
        print(json.dumps(summary.to_json() | profile_options.to_json(args, run), indent=2))
    else:
        tables.show_samples(summary)
        profile_options.show(args, run)
    return 0


def _check_single(args: argparse.Namespace) -> None:
    """Refuse what only a data set has."""
    sequence = args.sequence or None
    options = (("--labels", args.labels), ("--jobs", args.jobs), ("--sequence", sequence))
    for name, value in options:
        if value is not None:
            raise error(
                Code.OPTION,
                f"{name} must be for a data set",
                found="a single sample",
                remedy="--input FOLDER, or arrays with a first dimension of samples",
                source="npu-run",
            )


def _dump(args: argparse.Namespace) -> None:
    """Write the tensors of a level by the names of the model's nodes."""
    from npu_dialect import api, files, levels, taps
    from npu_dialect.ports import bind
    from npu_dialect.runtime import simulator

    if args.level == "npu" and _is_program(args.program):
        program = _chosen(args, _program(args))
        given = list(bind(program.inputs, _inputs(args, program.inputs)))
        run = simulator.simulate(program, given, state=_initial(args), tensors=True)
        tensors = dict(run.tensors)
    else:
        module = common.load_model(args, _model(args), _target(args))
        with common.progress("npu-run") as progress:
            quantize_options.quantize(args, module, api.Options(progress=progress))
        entry = _entry(args, module)
        ports = levels.inputs_of(module, entry)
        inputs = bind(ports, _inputs(args, ports))
        api.lower(module, args.level)
        tensors = taps.level(args.level, module, inputs, entry=entry, state=_initial(args))
    files.write_npz(args.dump, tensors)


def _run_level(args: argparse.Namespace) -> int:
    from npu_dialect import api, levels

    module = common.load_model(args, _model(args), _target(args))
    with common.progress("npu-run") as progress:
        quantize_options.quantize(args, module, api.Options(progress=progress))
    entry = _entry(args, module)
    inputs = _inputs(args, levels.inputs_of(module, entry))
    state = _initial(args)
    _check_states(state, [port.name for port in levels.states(module, entry)])
    with common.progress("npu-run") as progress:
        level: Level = args.level
        api.lower(module, level, options=api.Options(progress=progress))
        outputs = api.execute(module, inputs, entry=entry, state=state, seed=args.seed)
    _finish(args, outputs, state, None)
    return 0


def _entry(args: argparse.Namespace, module: ModuleOp) -> str | None:
    """The entry of a model that is named, or that the inputs fit."""
    from npu_dialect import levels
    from npu_dialect.tools.inputs import load_inputs

    if args.entry or not args.input or len(levels.entries(module)) == 1:
        return args.entry
    return levels.entry_for(module, load_inputs(args.input))


def _model(args: argparse.Namespace) -> str:
    return args.model or args.program


def _target(args: argparse.Namespace) -> str | None:
    """The target asked for, or that of the program."""
    if args.target or not _is_program(args.program):
        return args.target
    from npu_dialect.runtime.program import Program

    return Program.load(args.program).target


def _compare(args: argparse.Namespace) -> int:
    from npu_dialect import compare, levels
    from npu_dialect.tools import quantized, tables

    program = _program(args) if _is_program(args.program) else None
    module = common.load_model(args, _model(args), _target(args))
    wanted = quantize_options.wanted_of(args)
    if wanted is not None and program is None:
        return quantized.of_model(args, module, wanted)
    if program is not None and quantized.is_quantized(program, module):
        return quantized.of_program(args, module, program)
    _check_no_report(args)
    entry = _entry(args, module)
    inputs = _inputs(args, levels.inputs_of(module, entry))
    with common.progress("npu-run --compare") as progress:
        result = compare.compare(
            module,
            inputs,
            model=_model(args),
            program=program,
            seed=args.seed,
            entry=entry,
            state=_initial(args),
            progress=progress,
        )
    if args.json:
        print(json.dumps(result.to_json(), indent=2))
    else:
        tables.show_comparison(result)
    return 0 if result.levels_agree else common.EXIT_ERROR


def _finish(
    args: argparse.Namespace,
    outputs: dict[str, Array],
    states: Mapping[str, Array],
    run: Run | None,
) -> None:
    from npu_dialect import files

    if args.output:
        files.write_npz(args.output, outputs)
    if args.save_states:
        files.write_npz(args.save_states, dict(states))
    if args.json:
        print(json.dumps(_summary(args, outputs, states, run), indent=2))
        return
    from npu_dialect.tools import tables

    tables.show_outputs(outputs)
    if states:
        tables.show_outputs(states, "\nstates after the run")
    if run is not None:
        profile_options.show(args, run)


def _summary(
    args: argparse.Namespace,
    outputs: dict[str, Array],
    states: Mapping[str, Array],
    run: Run | None,
) -> dict[str, Any]:
    figures = profile_options.to_json(args, run) if run is not None else {}
    found = {"outputs": _shapes(outputs)} | figures
    return found | ({"states_after": _shapes(states)} if states else {})


def _shapes(arrays: Mapping[str, Array]) -> dict[str, Any]:
    return {n: {"dtype": str(a.dtype), "shape": list(a.shape)} for n, a in arrays.items()}


if __name__ == "__main__":
    sys.exit(main())
