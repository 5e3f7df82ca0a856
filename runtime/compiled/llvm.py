"""llvmlite, which comes without types: its two parts, as values of any type."""
# pyright: basic

from __future__ import annotations

from typing import Any

import llvmlite
import llvmlite.binding as _binding
from llvmlite import ir as _ir

binding: Any = _binding
"""The compiler."""
ir: Any = _ir
"""The writer of IR."""
VERSION: str = llvmlite.__version__
