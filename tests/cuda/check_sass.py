"""Reads what nvcc made of the kernels, and fails where it is not what makes them fast.

    check_sass.py CUDA_BIN LIBRARY [--tsv FILE]

CUDA_BIN holds cuobjdump and nvdisasm, LIBRARY is librev_cuda.a. Of every kernel and architecture:
no local memory, no float64 arithmetic, registers and static shared memory that leave at least half
of a multiprocessor's threads in use, and 128-bit loads and stores where it has a wide form, beside
no more narrow ones than a table here says. A kernel's wide form is the one whose first template
argument is true or a number above 1; some kernels choose as they run, and have no other.
"""

import argparse
import collections
import re
import subprocess
import sys

THREADS = 256  # of a block, cuda/launch.h
REGISTERS, MOST_THREADS = 65536, 2048  # of a multiprocessor, sm_80 and sm_90
SHARED = {"sm_80": 164 << 10, "sm_90": 228 << 10}  # bytes of one; each block takes 1 KiB besides

# Kernels that choose between wide and narrow accesses as they run.
ALWAYS_WIDE = r"(adamw|square_sums)_kernel<.*"

# How many loads and stores of less than 128 bits wide forms have at most, where they have any, and
# what those are of. Where an access falls out of the wide path there are more.
NARROW = {
    r"adamw_kernel<.*, float>": (26, 17, "bfloat16 four at a time; ends of tensors; a step's numbers"),
    r"adamw_kernel<.*, unsigned char>": (54, 40, "as above, and codes four at a time; scales"),
    r"add_rows_kernel<.*": (4, 0, "tokens and places, one a row"),
    r"combine_kernel<.*": (2, 0, "places and weights, one a row"),
    r"combine_backward_kernel<.*": (2, 1, "slots and weights, one a row"),
    r"correct_kernel<.*": (26, 1, "bits of cells, in few rows; row sums"),
    r"cross_entropy_kernel<.*": (26, 10, "ends of rows; targets and losses, one a row"),
    r"kl_kernel<.*": (65, 33, "ends of rows; targets and divergences, one a row"),
    r"dispatch_kernel<.*": (1, 0, "slots, one a row"),
    r"dropout_kernel<.*": (9, 8, "the tensor's end; the seed"),
    r"mask_kernel<.*": (1, 16, "the mask's end; the seed"),
    r"gather_kernel<.*": (1, 0, "indices, one a row"),
    r"norm_kernel<.*": (0, 2, "moments, one a row"),
    r"norm_backward_kernel<.*": (51, 0, "moments, one a row; bfloat16 four at a time"),
    r"pack_kernel<.*": (8, 9, "ends of tensors; a few bits an element"),
    r"rows_kernel<.*": (0, 2, "sums, one a row"),
    r"select_kernel<.*": (1, 1, "a few bits an element; sums, one a row"),
    r"shift_kernel<.*": (1, 3, "planes, a few bits an element; sums, one a row"),
    r"square_sums_kernel<.*": (24, 1, "ends of tensors; one sum a slice"),
    r"step_kernel<.*": (2, 2, "indices and moves, one a row"),
    r"update_norm_kernel<.*": (0, 4, "sums and moments, one a row"),
}

# Wide forms that need no 128-bit load or store, and why.
NO_WIDE_LOAD = {
    r"mask_kernel<.*": "reads nothing but a seed",
}
NO_WIDE_STORE = {
    r"rows_kernel<\d, .*Keep>": "writes one sum a row",
    r"(cross_entropy|kl)_kernel<.* const>": "writes one loss a row",
    r"pack_kernel<.*": "writes a few bits an element",
    r"drift_kernel<.*": "writes one record",
    r"square_sums_kernel<.*": "writes one sum a slice",
}


def run(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def demangle(names):
    text = subprocess.run(["c++filt"], input="\n".join(names), check=True, capture_output=True, text=True).stdout
    short = {}
    for name, full in zip(names, text.splitlines()):
        full = full.replace("(anonymous namespace)::", "").replace("rev::cuda::", "")
        short[name] = re.sub(r"^void ", "", re.sub(r">\(.*|\([^<>]*\)$", lambda m: m[0][0] if m[0][0] == ">" else "", full))
    return short


def read(tool, library):
    """{(architecture, kernel): (usage, counts of instructions)}"""
    usage, counts = {}, collections.defaultdict(collections.Counter)
    architecture = name = None
    for line in run(tool, "-res-usage", library).splitlines():
        if found := re.search(r"^arch = (sm_\d+)", line):
            architecture = found[1]
        elif found := re.search(r"Function (\S+):", line):
            name = found[1]
        elif name and (found := dict(re.findall(r"(REG|STACK|LOCAL|SHARED):(\d+)", line))):
            usage[architecture, name] = {key: int(value) for key, value in found.items()}
            name = None
    for line in run(tool, "-sass", library).splitlines():
        if found := re.search(r"^arch = (sm_\d+)", line):
            architecture = found[1]
        elif found := re.search(r"Function : (\S+)", line):
            name = found[1]
        elif found := re.match(r"\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_.]*)", line):
            counts[architecture, name][found[1]] += 1
    return {key: (usage[key], counts[key]) for key in usage}


def occupancy(architecture, usage):
    """Share of a multiprocessor's threads that fit; registers are given to warps in units of 256."""
    per_block = -(-usage["REG"] * 32 // 256) * 256 * (THREADS // 32)
    blocks = min(REGISTERS // per_block, SHARED[architecture] // (usage["SHARED"] + 1024))
    return min(blocks * THREADS, MOST_THREADS) / MOST_THREADS


def total(counts, *starts, part=""):
    return sum(n for name, n in counts.items() if name.startswith(starts) and part in name)


def is_wide(kernel):
    if re.fullmatch(ALWAYS_WIDE, kernel):
        return True
    first = re.match(r"\w+<\(?(?:int|bool)?\)?([^,>]+)", kernel)
    return bool(first) and (first[1] == "true" or (first[1].isdigit() and int(first[1]) > 1))


def excused(kernel, table):
    return any(re.fullmatch(pattern, kernel) for pattern in table)


def faults(kernel, architecture, usage, counts):
    if usage["STACK"] or usage["LOCAL"] or total(counts, "LDL", "STL"):
        yield "uses local memory"
    if total(counts, "DADD", "DMUL", "DFMA", "DSETP", "DMNMX") or total(counts, "F2", "I2", "MUFU", part="64F") or \
            total(counts, "F2F", "I2F", "F2I", part="F64"):
        yield "has float64 arithmetic"
    if (share := occupancy(architecture, usage)) < 0.5:
        yield f"needs {usage['REG']} registers and {usage['SHARED']} bytes of shared memory: {share:.0%} of the threads"
    if is_wide(kernel):
        if not total(counts, "LDG", part=".128") and not excused(kernel, NO_WIDE_LOAD):
            yield "has no 128-bit load"
        if not total(counts, "STG", part=".128") and not excused(kernel, NO_WIDE_STORE):
            yield "has no 128-bit store"
        most = next((entry for pattern, entry in NARROW.items() if re.fullmatch(pattern, kernel)), (0, 0))
        for what, allowed in zip(("LDG", "STG"), most):
            narrow = total(counts, what) - total(counts, what, part=".128")
            if narrow > allowed:
                yield f"has {narrow} narrow {what} beside the wide ones, not {allowed} at most"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("cuda_bin")
    parser.add_argument("library")
    parser.add_argument("--tsv")
    options = parser.parse_args()
    kernels = read(options.cuda_bin + "/cuobjdump", options.library)
    if not kernels:
        sys.exit(f"{options.library}: holds no kernel")
    names = demangle(sorted({name for _, name in kernels}))
    header = ["kernel", "arch", "registers", "occupancy", "shared", "LDG", "LDG.128", "STG", "STG.128", "shuffles",
              "barriers", "atomics", "instructions"]
    rows, found = [], []
    for (architecture, mangled), (usage, counts) in sorted(kernels.items(), key=lambda item: (names[item[0][1]], item[0])):
        kernel = names[mangled]
        rows.append([kernel, architecture, usage["REG"], f"{occupancy(architecture, usage):.2f}", usage["SHARED"],
                     total(counts, "LDG"), total(counts, "LDG", part=".128"),
                     total(counts, "STG"), total(counts, "STG", part=".128"),
                     total(counts, "SHFL"), total(counts, "BAR"), total(counts, "ATOM", "RED.", "REDG"), sum(counts.values())])
        found += [f"{kernel} ({architecture}) {fault}" for fault in faults(kernel, architecture, usage, counts)]
    lines = ["\t".join(map(str, row)) for row in [header] + rows]
    print("\n".join(lines))
    if options.tsv:
        with open(options.tsv, "w") as file:
            file.write("\n".join(lines) + "\n")
    print(f"{len(rows)} kernels, {len(found)} faults", *found, sep="\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
