"""Machine code where numba is installed; without it the same answers, only slower."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

try:
    import numba
    from llvmlite import ir
    from numba.core import types
    from numba.core.datamodel import PrimitiveModel
    from numba.extending import intrinsic, register_model
except ImportError:
    numba = None

IS_FAST = numba is not None
"""Whether the compiled engine is used: `pip install "mmlab[fast]"` installs numba."""


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` as machine code, kept on disk between sessions; as it is without numba."""
    if numba is None:
        return function
    options = {"nogil": True, "boundscheck": False}
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:  # there is no folder that numba may write: compile in every session
        return numba.njit(**options)(function)


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
            ranks = _everywhere(builder, sixteen, args[2])
            younger = builder.icmp_signed(">", ir.Constant(sixteen, list(range(16))), ranks)
            before = builder.load(place)
            before.align = 4
            builder.store(builder.add(before, builder.sext(younger, sixteen)), place, align=4)
            return context.get_dummy_value()

        return types.void(counts, types.int64, types.int64), generate

    class Lanes(types.Type):
        """64 numbers of 16 bits in vector registers: two, four or eight, as the processor has them.

        A loop that holds them in a variable changes all of them without waiting for memory.
        """

        def __init__(self):
            super().__init__("Lanes")

    lanes_type = Lanes()
    lane = ir.IntType(16)
    vector = ir.VectorType(lane, 64)

    @register_model(Lanes)
    class LanesModel(PrimitiveModel):
        """How numba keeps `Lanes`: as LLVM's vector."""

        def __init__(self, manager, of):
            super().__init__(manager, of, vector)

    def _place(context, builder, kind, array):
        data = context.make_array(kind)(context, builder, array).data
        return builder.bitcast(data, vector.as_pointer())

    @intrinsic
    def lanes_of(typing_context, array):
        """The 64 numbers of `array`, uint16."""

        def generate(context, builder, signature, args):
            return builder.load(_place(context, builder, array, args[0]), align=2)

        return lanes_type(array), generate

    @intrinsic
    def store_lanes(typing_context, array, lanes):
        """Write `lanes` to `array`, uint16, shape (64,)."""

        def generate(context, builder, signature, args):
            builder.store(args[1], _place(context, builder, array, args[0]), align=2)
            return context.get_dummy_value()

        return types.void(array, lanes), generate

    @intrinsic
    def lose_one_after(typing_context, lanes, rank):
        """`lanes`, with 1 less in each after number `rank`."""

        def generate(context, builder, signature, args):
            later = builder.icmp_signed(
                ">", ir.Constant(vector, list(range(64))), _everywhere(builder, vector, args[1])
            )
            return builder.add(args[0], builder.sext(later, vector))

        return lanes_type(lanes, types.uint64), generate

    def _everywhere(builder, kind, number):
        """A vector that holds `number`, an integer of 64 bits, in every lane."""
        places = ir.VectorType(ir.IntType(32), kind.count)
        first = builder.insert_element(
            ir.Constant(kind, ir.Undefined),
            builder.trunc(number, kind.element),
            ir.IntType(32)(0),
        )
        return builder.shuffle_vector(first, first, ir.Constant(places, [0] * kind.count))
