"""Write the generated pages of docs/, and refresh the excerpts of the tutorial."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from npu_dialect.tools import common

EXAMPLES = """\
  python -m npu_dialect.tools.docs            write what has changed
  python -m npu_dialect.tools.docs --check    only say what would change
"""

TUTORIALS = ("tutorial.md",)
"""The documents whose excerpts are refreshed."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool; the exit code: 1 where --check finds something to change."""
    parser = common.Parser("docs", __doc__ or "", EXAMPLES)
    parser.add_argument("--check", action="store_true", help="change nothing, fail on what is old")
    parser.add_argument("--folder", default="docs", metavar="DIR", help="default: docs")
    common.add_debug_option(parser)
    return common.run_tool(parser, _run, argv)


def _run(args: argparse.Namespace) -> int:
    from npu_dialect import files

    old = changed(Path(args.folder))
    for path, text in old.items():
        if not args.check:
            files.write_text(path, text)
        print(f"{path}: {'out of date' if args.check else 'written'}")
    return common.EXIT_ERROR if args.check and old else 0


def changed(folder: Path) -> dict[Path, str]:
    """The documents in `folder` that are not what they should be, with what they should be."""
    from npu_dialect import files
    from npu_dialect.tools.docs import excerpts, pages

    wanted = {folder / name: page() for name, page in pages.PAGES.items()}
    for name in TUTORIALS:
        wanted[folder / name] = excerpts.refreshed(files.read_text(folder / name))
    return {path: text for path, text in wanted.items() if _content(path) != text}


def _content(path: Path) -> str | None:
    return path.read_text() if path.exists() else None


if __name__ == "__main__":
    sys.exit(main())
