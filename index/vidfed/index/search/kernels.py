"""The compiled loops: building tables, looking into buckets, scanning. Imported only when an index is large enough to need them.

Numba compiles on the first import (six to ten seconds) and keeps the machine code (next time half a second): in the folder that the
environment's NUMBA_CACHE_DIR names, else in `__pycache__` beside this file, else, where that is read-only, in the user's cache folder.
Where none of them can be written it compiles at each start; set NUMBA_CACHE_DIR there. All loops run without Python's interpreter lock.

The intrinsics live in this file too: Numba compiles anew only when the file of a kept function changes.
"""

# Numba and LLVM's builder are not typed; the signatures given to `njit` are what Numba checks.
# mypy: ignore-errors
# ruff: noqa: ANN001, ANN201, ANN202, ARG001, PLR2004

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.core.caching import FunctionCache
from numba.extending import intrinsic

LANES = 32
"""Filters compared by one step; arrays of filters end with as many spare entries."""
_AHEAD = 16
"""Buckets between asking memory for a cache line and using it. Measured: at 64 the processor forgets some again."""
_RING = 63
_PREFETCHED = 256
"""Filters of a bucket asked for in advance; the processor guesses the rest of a longer one by itself."""
_WAITING = 32
"""Rows past the filter whose codes are fetched together."""
_PROBED, _VERIFIED = 80, 256
"""What a bucket, and a row past the filter, cost in filters compared."""
_SCAN_ROWS = 256
"""Codes compared with all queries of a batch while they are in the first-level cache."""


def _pointer(context, builder, array_type, array, index):
    return builder.gep(context.make_array(array_type)(context, builder, array).data, [index])


@intrinsic
def _count_bits(_typing, value):
    """The number of set bits."""

    def code(_context, builder, _signature, arguments):
        return builder.ctpop(arguments[0])

    return value(value), code


@intrinsic
def _lowest_bit(_typing, value):
    """The position of the lowest set bit of a value that is not 0."""

    def code(_context, builder, _signature, arguments):
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return value(value), code


@intrinsic
def _prefetch(_typing, array, index):
    """Ask for the cache line of `array[index]` and do not wait."""

    def code(context, builder, signature, arguments):
        byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        pointer = builder.bitcast(_pointer(context, builder, signature.args[0], *arguments), byte)
        function_type = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
        function = cgutils.get_or_insert_function(builder.module, function_type, "llvm.prefetch.p0")
        builder.call(function, [pointer, number(0), number(3), number(1)])  # to be read, keep it close, data
        return context.get_dummy_value()

    return types.void(array, index), code


@intrinsic
def _near_filters(_typing, filters, start, wanted, bound):
    """Which of the 32 filters from `start` differ from `wanted` in at most `bound` bits, as a mask: eight instructions with AVX2."""

    def code(context, builder, signature, arguments):
        filters, start, wanted, bound = arguments
        vector = ir.VectorType(ir.IntType(16), LANES)

        def spread(value):
            undefined = ir.Constant(vector, ir.Undefined)
            zeros = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
            return builder.shuffle_vector(builder.insert_element(undefined, value, ir.IntType(32)(0)), undefined, zeros)

        pointer = _pointer(context, builder, signature.args[0], filters, start)
        values = builder.load(builder.bitcast(pointer, vector.as_pointer()))
        values.align = 2
        count = cgutils.get_or_insert_function(builder.module, ir.FunctionType(vector, [vector]), f"llvm.ctpop.v{LANES}i16")
        near = builder.icmp_unsigned("<=", builder.call(count, [builder.xor(values, spread(wanted))]), spread(bound))
        return builder.bitcast(near, ir.IntType(LANES))

    return types.uint32(filters, types.int64, types.uint16, types.uint16), code


@intrinsic
def _four_distances(_typing, codes, first_word, queries, query_word):
    """The distances of one query to four codes of 256 bits, in the four quarters of one number."""

    def code(context, builder, signature, arguments):
        codes, first_word, queries, query_word = arguments
        number = ir.IntType(64)
        vector = ir.VectorType(number, 4)

        def load(array_type, array, index):
            value = builder.load(builder.bitcast(_pointer(context, builder, array_type, array, index), vector.as_pointer()))
            value.align = 8
            return value

        count = cgutils.get_or_insert_function(builder.module, ir.FunctionType(vector, [vector]), "llvm.ctpop.v4i64")
        add_up = cgutils.get_or_insert_function(builder.module, ir.FunctionType(number, [vector]), "llvm.vector.reduce.add.v4i64")
        wanted = load(signature.args[2], queries, query_word)
        total = ir.Constant(vector, [0] * 4)
        for row in range(4):
            word = builder.add(first_word, number(4 * row))
            bits = builder.call(count, [builder.xor(load(signature.args[0], codes, word), wanted)])
            total = builder.add(total, builder.shl(bits, ir.Constant(vector, [16 * row] * 4)))
        return builder.call(add_up, [total])

    return types.uint64(codes, types.int64, queries, types.int64), code


def _read_only(scalar, dimensions: int = 1):
    return types.Array(scalar, dimensions, "C", readonly=True)


_U8, _U16, _U32, _U64, _I64 = (_read_only(t) for t in (types.uint8, types.uint16, types.uint32, types.uint64, types.int64))
_OUT64, _OUT8, _OUT16, _OUTU32 = types.int64[::1], types.uint8[::1], types.uint16[::1], types.uint32[::1]


def _can_keep() -> bool:
    """Whether there is a folder to keep machine code in; Numba refuses to compile when asked to keep it and there is none."""
    try:
        FunctionCache(_can_keep)
    except RuntimeError:
        return False
    return True


KEPT = _can_keep()
_inlined = njit(nogil=True, inline="always", error_model="numpy")


@_inlined
def _bits(codes, first_word, words, offset, width):
    """`width` (less than 64) bits of one code of 1, 2, 4... words from bit `offset`, going on at the code's start after its end."""
    word, shift = offset >> 6, np.uint64(offset & 63)
    low = codes[first_word + (word & (words - 1))] >> shift
    # Shifted twice, because a shift by 64 is undefined; what is beyond `width` is masked, so that no branch is needed.
    high = (codes[first_word + ((word + 1) & (words - 1))] << np.uint64(1)) << (np.uint64(63) - shift)
    return (low | high) & ((np.uint64(1) << np.uint64(width)) - np.uint64(1))


@_inlined
def _distance(codes, first_word, queries, first_query_word, words):
    total = np.uint64(0)
    for word in range(words):
        total += _count_bits(codes[first_word + word] ^ queries[first_query_word + word])
    return np.int64(total)


@njit(
    types.void(_U64, types.int64, types.int64, types.int64, types.int64, types.uint64[::1], _OUTU32, _OUT16, _OUT8),
    nogil=True,
    cache=KEPT,
    error_model="numpy",
)
def build_table(codes, words, table, offset, prefix, scratch, directory, filters, row_numbers) -> None:
    """Fill one table by counting sort, in two passes: into at most 256 parts, then each part while it is in the processor's cache.

    Args:
        codes: uint64[rows * words].
        words: 64-bit words of a code.
        table: Position of the table's rows in `filters` and `row_numbers`, in tables.
        offset: First bit of the bucket's address in a code.
        prefix: Bits of the bucket's address.
        scratch: uint64[rows].
        directory: uint32[2**prefix + 1]: becomes each bucket's start, counted from the table's first row.
        filters: uint16[tables * rows + LANES]: the 16 bits after the prefix.
        row_numbers: uint8[tables * rows * 3 or 4]: which row it is, little-endian.
    """
    rows, width = codes.size // words, row_numbers.size // (filters.size - LANES)
    low_bits = max(0, prefix - 8)
    low_mask, prefix_mask = np.uint64((1 << low_bits) - 1), np.uint64((1 << prefix) - 1)
    part_ends = np.zeros(257, np.int64)
    for row in range(rows):
        part_ends[np.int64(_bits(codes, row * words, words, offset + low_bits, prefix - low_bits)) + 1] += 1
    for part in range(256):
        part_ends[part + 1] += part_ends[part]
    for number in range(rows):
        value = _bits(codes, number * words, words, offset, prefix + 16)
        part = np.int64((value & prefix_mask) >> np.uint64(low_bits))
        place = part_ends[part]
        part_ends[part] += 1
        scratch[place] = (value & low_mask) << np.uint64(44) | value >> np.uint64(prefix) << np.uint64(28) | np.uint64(number)
    next_free = np.empty(1 << low_bits, np.int64)
    begin = 0
    for part in range(1 << (prefix - low_bits)):
        end = part_ends[part]
        next_free[:] = 0
        for k in range(begin, end):
            next_free[np.int64(scratch[k] >> np.uint64(44))] += 1
        free = begin
        for low in range(1 << low_bits):
            directory[(part << low_bits) + low] = np.uint32(free)
            count = next_free[low]
            next_free[low] = free
            free += count
        for k in range(begin, end):
            entry = scratch[k]
            low = np.int64(entry >> np.uint64(44))
            place = table * rows + next_free[low]
            next_free[low] += 1
            filters[place] = np.uint16(entry >> np.uint64(28))
            row = entry & np.uint64((1 << 28) - 1)
            for byte in range(width):
                row_numbers[width * place + byte] = np.uint8(row >> np.uint64(8 * byte))
        begin = end
    directory[directory.size - 1] = np.uint32(rows)


@njit(nogil=True, error_model="numpy")
def _verify(waiting, waiting_tables, held, row_numbers, codes, words, queries, query, layout, limits, removed, max_distance, out, hits):
    """Compare whole codes; -1 where a hit did not fit. A row that several tables lead to counts where the first of them does."""
    tables = layout.size // 3
    width = row_numbers.size // (tables * (codes.size // words))
    for k in range(held):
        place = width * waiting[k]
        row = np.int64(row_numbers[place]) | np.int64(row_numbers[place + 1]) << 8 | np.int64(row_numbers[place + 2]) << 16
        if width > 3:
            row |= np.int64(row_numbers[place + 3]) << 24
        waiting[k] = row
        _prefetch(codes, row * words)
    for k in range(held):
        row = waiting[k]
        distance = _distance(codes, row * words, queries, query * words, words)
        if distance > max_distance:
            continue
        if removed.size and removed[row >> 3] >> np.uint8(row & 7) & np.uint8(1):
            continue
        earlier = False
        for table in range(waiting_tables[k]):
            offset, prefix = layout[3 * table], layout[3 * table + 1]
            flips = np.int64(
                _count_bits(_bits(codes, row * words, words, offset, prefix) ^ _bits(queries, query * words, words, offset, prefix))
            )
            if flips <= limits[table]:
                offset += prefix
                flips += np.int64(
                    _count_bits(_bits(codes, row * words, words, offset, 16) ^ _bits(queries, query * words, words, offset, 16))
                )
                if flips <= limits[tables + table]:
                    earlier = True
                    break
        if earlier:
            continue
        if 3 * hits == out.size:
            return -1
        out[3 * hits], out[3 * hits + 1], out[3 * hits + 2] = query, distance, row
        hits += 1
    return hits


@njit(
    types.UniTuple(types.int64, 3)(
        _U64,
        types.int64,
        types.int64,
        types.int64,
        _U64,
        _I64,
        _U32,
        _U16,
        _U8,
        _U8,
        _U8,
        _U32,
        _U16,
        _I64,
        types.int64,
        types.int64,
        _OUT64,
        _OUT8,
    ),
    nogil=True,
    cache=KEPT,
    error_model="numpy",
)
def search(  # noqa: C901, PLR0912, PLR0915 - one pipeline; Numba pays for each call between its stages
    queries,
    words,
    first_query,
    last_query,
    codes,
    layout,
    directory,
    filters,
    row_numbers,
    removed,
    probe_tables,
    probe_masks,
    probe_bounds,
    limits,
    max_distance,
    budget,
    out,
    gave_up,
):
    """Look into the buckets of a plan, for queries from `first_query` to before `last_query`.

    Args:
        queries: uint64[q * words].
        words: 64-bit words of a code.
        first_query: Where to begin.
        last_query: Where to end.
        codes: uint64[rows * words].
        layout: int64[3 * m]: each table's offset, prefix, and start in `directory`.
        directory: uint32: all tables' bucket starts.
        filters: uint16[m * rows + LANES].
        row_numbers: uint8[m * rows * 3 or 4].
        removed: uint8[rows / 8], bits of removed rows; empty if none is.
        probe_tables: uint8[p].
        probe_masks: uint32[p].
        probe_bounds: uint16[p].
        limits: int64[2 * m]: each table's t_j, then each table's t_j + t_(j+1) + 1.
        max_distance: Inclusive.
        budget: Give a query up (for a scan) when it would cost more than comparing this many filters.
        out: int64[3 * capacity]: for each hit the query's number, the distance, the row.
        gave_up: uint8[q]: set to 1 where the budget was exceeded; such a query has no hits here.

    Returns:
        The number of hits written; the first query not done, less than `last_query` where that query's hits did not fit;
        the number of queries given up.
    """
    rows, tables, probes = codes.size // words, layout.size // 3, probe_masks.size
    width = row_numbers.size // (tables * rows)
    values, wanted = np.empty(tables, np.uint32), np.empty(tables, np.uint16)
    slots, starts, lengths = np.empty(_RING + 1, np.int64), np.empty(_RING + 1, np.int64), np.empty(_RING + 1, np.int64)
    waiting, waiting_tables = np.empty(_WAITING + LANES, np.int64), np.empty(_WAITING + LANES, np.int64)
    hits, given_up = 0, 0
    for query in range(first_query, last_query):
        query_word = query * words
        for table in range(tables):
            offset, prefix = layout[3 * table], layout[3 * table + 1]
            values[table] = np.uint32(_bits(queries, query_word, words, offset, prefix))
            wanted[table] = np.uint16(_bits(queries, query_word, words, offset + prefix, 16))
        first_hit, spent, held = hits, 0, 0
        # Three stages, each working on what the stage before asked memory for `_AHEAD` buckets ago.
        for step in range(probes + 2 * _AHEAD):
            if step < probes:
                table = probe_tables[step]
                slot = layout[3 * table + 2] + np.int64(values[table] ^ probe_masks[step])
                slots[step & _RING] = slot
                _prefetch(directory, slot)
            probe = step - _AHEAD
            if 0 <= probe < probes:
                slot = slots[probe & _RING]
                start = np.int64(directory[slot])
                length = np.int64(directory[slot + 1]) - start
                start += np.int64(probe_tables[probe]) * rows
                for line in range(0, min(length, _PREFETCHED) + LANES - 1, LANES):
                    _prefetch(filters, start + line)
                starts[probe & _RING], lengths[probe & _RING] = start, length
                spent += length + _PROBED
            if spent > budget:
                break
            probe = step - 2 * _AHEAD
            if probe < 0:
                continue
            start, length = starts[probe & _RING], lengths[probe & _RING]
            table, bound = np.int64(probe_tables[probe]), probe_bounds[probe]
            for lane in range(0, length, LANES):
                near = _near_filters(filters, start + lane, wanted[table], bound)
                if length - lane < LANES:
                    near = np.uint32(near & ((np.uint64(1) << np.uint64(length - lane)) - np.uint64(1)))
                while near:
                    place = start + lane + np.int64(_lowest_bit(near))
                    near = np.uint32(near & (near - np.uint32(1)))
                    _prefetch(row_numbers, width * place)
                    waiting[held], waiting_tables[held] = place, table
                    held += 1
                if held >= _WAITING:
                    spent += _VERIFIED * held
                    hits = _verify(
                        waiting,
                        waiting_tables,
                        held,
                        row_numbers,
                        codes,
                        words,
                        queries,
                        query,
                        layout,
                        limits,
                        removed,
                        max_distance,
                        out,
                        hits,
                    )
                    held = 0
                    if hits < 0:
                        return first_hit, query, given_up
                    if spent > budget:
                        break
        over = spent > budget  # in whichever stage: some bucket was not looked through
        if not over and held:
            hits = _verify(
                waiting, waiting_tables, held, row_numbers, codes, words, queries, query, layout, limits, removed, max_distance, out, hits
            )
            if hits < 0:
                return first_hit, query, given_up
        if over:
            gave_up[query] = 1
            given_up += 1
            hits = first_hit
    return hits, last_query, given_up


@njit(
    types.int64(_U64, types.int64, _I64, _U64, _U8, types.int64, _OUT64),
    nogil=True,
    cache=KEPT,
    error_model="numpy",
)
def scan(queries, words, asked, codes, removed, max_distance, out):
    """Compare every code with the queries numbered in `asked`; the rest as in `search`. Returns the hits, or -1 if they did not fit."""
    rows, hits = codes.size // words, 0
    ones, signs = np.uint64(0x0001000100010001), np.uint64(0x8000800080008000)
    too_far = ones * np.uint64(max_distance + 1)
    for block in range(0, rows, _SCAN_ROWS):
        end = min(block + _SCAN_ROWS, rows)
        for k in range(asked.size):
            first = asked[k] * words
            for four in range(block, end, 4):
                # A quarter keeps its sign bit unless something larger than its distance is subtracted from it.
                if (
                    words == 4
                    and four + 4 <= end
                    and ((_four_distances(codes, four * 4, queries, first) | signs) - too_far) & signs == signs
                ):
                    continue
                for row in range(four, min(four + 4, end)):
                    distance = _distance(codes, row * words, queries, first, words)
                    if distance > max_distance:
                        continue
                    if removed.size and removed[row >> 3] >> np.uint8(row & 7) & np.uint8(1):
                        continue
                    if 3 * hits == out.size:
                        return -1
                    out[3 * hits], out[3 * hits + 1], out[3 * hits + 2] = asked[k], distance, row
                    hits += 1
    return hits


@njit(
    types.int64(_U64, types.int64, _I64, _U64, _U8, types.int64, _I64, types.int64, _OUT64),
    nogil=True,
    cache=KEPT,
    error_model="numpy",
)
def scan_crowd(queries, words, asked, codes, removed, max_distance, bands, enough, out):  # noqa: D417 - the others as in `search`
    """Find at least the nearest hits of the queries numbered in `asked`, where `scan` finds too many.

    Rows come in ascending order: once a query has `enough` hits up to some band, a later row of that band or beyond is not among its first
    `enough`, and the query goes on with a smaller distance; in a crowd soon with none.

    Args:
        bands: int64[max_distance + 1]: each distance's band, rising.
        enough: How many of a query's hits are needed, the first by (band, row); of the others some are missing.

    Returns:
        The number of hits written, -1 if they did not fit.
    """
    rows, hits, farthest = codes.size // words, 0, bands[max_distance]
    ones, signs = np.uint64(0x0001000100010001), np.uint64(0x8000800080008000)
    reaches = np.full(asked.size, max_distance, np.int64)
    found = np.zeros((asked.size, farthest + 1), np.int64)  # hits of each query in each band or nearer ones
    for block in range(0, rows, _SCAN_ROWS):
        end = min(block + _SCAN_ROWS, rows)
        for k in range(asked.size):
            reach = reaches[k]
            if reach < 0:
                continue
            first, too_far = asked[k] * words, ones * np.uint64(reach + 1)
            for four in range(block, end, 4):
                if (
                    words == 4
                    and four + 4 <= end
                    and ((_four_distances(codes, four * 4, queries, first) | signs) - too_far) & signs == signs
                ):
                    continue
                for row in range(four, min(four + 4, end)):
                    distance = _distance(codes, row * words, queries, first, words)
                    if distance > reach:
                        continue
                    if removed.size and removed[row >> 3] >> np.uint8(row & 7) & np.uint8(1):
                        continue
                    if 3 * hits == out.size:
                        return -1
                    out[3 * hits], out[3 * hits + 1], out[3 * hits + 2] = asked[k], distance, row
                    hits += 1
                    for band in range(bands[distance], farthest + 1):
                        found[k, band] += 1
                    while reach >= 0 and found[k, bands[reach]] >= enough:
                        reach -= 1
            reaches[k] = reach
    return hits
