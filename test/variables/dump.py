"""Run by gdb on a program that has just begun: steps, and at each stop writes what all variables of all frames are.

Reads from the environment STEPS (numbers of instructions to step, separated by commas) and OUTPUT (a file). Writes
one JSON object a line: {"pc", "frames": [{"name", "pc", "variables": {name: value}}]}. Numbers are strings, since they
may be larger than what JSON's readers keep.
"""

import json
import os

import gdb

OPTIMISED_OUT = "<optimised out>"
NUMBERS = (gdb.TYPE_CODE_INT, gdb.TYPE_CODE_CHAR, gdb.TYPE_CODE_BOOL, gdb.TYPE_CODE_ENUM)
POINTERS = (gdb.TYPE_CODE_PTR,)
RECORDS = (gdb.TYPE_CODE_STRUCT, gdb.TYPE_CODE_UNION)


def problem(error):
    if str(error) == "value has been optimized out":
        return OPTIMISED_OUT
    return "<" + str(error) + ">"


def plain(value):
    kind = value.type.strip_typedefs()
    try:
        if kind.code in RECORDS:
            return members(value, kind)
        if kind.code == gdb.TYPE_CODE_ARRAY:
            low, high = kind.range()
            return [plain(value[index]) for index in range(low, high + 1)]
        if kind.code in (gdb.TYPE_CODE_REF, gdb.TYPE_CODE_RVALUE_REF):
            return plain(value.referenced_value())
        if value.is_optimized_out:
            return OPTIMISED_OUT
        if kind.code in NUMBERS:
            return str(int(value) if kind.sizeof <= 8 else wide(value, kind))
        if kind.code in POINTERS:
            # gdb 13 breaks down over what Rust's pointers without a value point to.
            if not is_rust() and "synthetic pointer" in value.format_string():
                return {"*": plain(value.dereference())}
            return str(int(value) & (1 << 64) - 1)
        if kind.code == gdb.TYPE_CODE_FLT:
            return repr(float(value))
    except gdb.error as error:
        return problem(error)
    return "<type code " + str(kind.code) + ">"


def wide(value, kind):
    """gdb computes with 8 bytes at most, but shows what is in memory."""
    data = gdb.selected_inferior().read_memory(value.address, kind.sizeof)
    return int.from_bytes(bytes(data), "little", signed=kind.is_signed)


def is_rust():
    return gdb.selected_frame().language() == "rust"


def members(value, kind):
    found = {}
    for index, field in enumerate(kind.fields()):
        # Rust's discriminants: what they tell is which of the other members are there.
        is_discriminant = field.artificial and not field.name
        if is_discriminant or not hasattr(field, "bitpos"):
            continue
        if field.name and not field.is_base_class:
            found[field.name] = plain(value[field])
        else:
            found["#" + str(index)] = plain(value[field])
    return found


def variables(frame):
    found = {}
    try:
        block = frame.block()
    except RuntimeError:
        return found
    while block:
        for symbol in block:
            is_value = symbol.is_variable or symbol.is_argument
            if is_value and symbol.name not in found:
                try:
                    found[symbol.name] = plain(symbol.value(frame))
                except gdb.error as error:
                    found[symbol.name] = problem(error)
        if block.function:
            break
        block = block.superblock
    return found


def is_main(frame):
    return frame.name() is not None and frame.name().split("::")[-1] == "main"


def frames():
    found = []
    frame = gdb.newest_frame()
    while frame:
        found.append({"name": frame.name(), "pc": str(frame.pc()), "variables": variables(frame)})
        if is_main(frame):
            break
        frame = frame.older()
    return found


def main():
    gdb.execute("starti", to_string=True)
    with open(os.environ["OUTPUT"], "w", encoding="utf-8") as output:
        for steps in os.environ["STEPS"].split(","):
            gdb.execute("stepi " + steps, to_string=True)
            stop = {"pc": str(gdb.newest_frame().pc()), "frames": frames()}
            output.write(json.dumps(stop) + "\n")
    gdb.execute("kill")


main()
