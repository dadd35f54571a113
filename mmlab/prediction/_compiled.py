"""Machine code where numba is installed; without it the same answers, only slower."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

try:
    import numba
    from llvmlite import ir
    from numba.core import types
    from numba.extending import intrinsic
except ImportError:
    numba = None

IS_FAST = numba is not None
"""Whether the compiled engine is used: `pip install "mmlab[fast]"` installs numba."""


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` as machine code, kept on disk between sessions; as it is without numba."""
    if numba is None:
        return function
    return numba.njit(cache=True, nogil=True, boundscheck=False)(function)


if numba is not None:

    @intrinsic
    def popcount(typing_context, word):
        """Number of bits set in `word`, an uint64: one instruction, which Python cannot say."""

        def generate(context, builder, signature, args):
            return builder.ctpop(args[0])

        return types.uint64(types.uint64), generate

    @intrinsic
    def younger_lose_one(typing_context, counts, family, rank):
        """Subtract 1 from `counts[family + i]` for all i from `rank` + 1 to 15.

        Sixteen int32 neighbours in one or two vector instructions. A loop would be compiled to
        sixteen steps, as the compiler cannot know that no other array shares this memory.
        """

        def generate(context, builder, signature, args):
            array = context.make_array(signature.args[0])(context, builder, args[0])
            sixteen = ir.VectorType(ir.IntType(32), 16)
            place = builder.bitcast(builder.gep(array.data, [args[1]]), sixteen.as_pointer())
            rank = builder.trunc(args[2], ir.IntType(32))
            one = builder.insert_element(
                ir.Constant(sixteen, ir.Undefined), rank, ir.IntType(32)(0)
            )
            ranks = builder.shuffle_vector(one, one, ir.Constant(sixteen, [0] * 16))
            younger = builder.icmp_signed(">", ir.Constant(sixteen, list(range(16))), ranks)
            before = builder.load(place)
            before.align = 4
            builder.store(builder.add(before, builder.sext(younger, sixteen)), place, align=4)
            return context.get_dummy_value()

        return types.void(counts, types.int64, types.int64), generate
