"""Reads what nvcc made of the kernels, and fails where it is not what makes them fast.

    check_sass.py CUDA_BIN LIBRARY [--tsv FILE]

CUDA_BIN holds cuobjdump and nvdisasm, LIBRARY is librev_cuda.a. Of every kernel and architecture:
no local memory, no float64 arithmetic, registers that leave at least half of a multiprocessor's
threads in use, and 128-bit loads and stores where it has a wide form. A kernel's wide form is the
one whose first template argument is true or a number above 1.
"""

import argparse
import collections
import re
import subprocess
import sys

THREADS = 256  # of a block, cuda/launch.h
REGISTERS, MOST_THREADS = 65536, 2048  # of a multiprocessor, sm_80 and sm_90

# Wide forms that need no 128-bit load or store, and why.
NO_WIDE_LOAD = {
    r"mask_kernel<.*": "reads nothing but a seed",
}
NO_WIDE_STORE = {
    r"rows_kernel<\d, .*Keep>": "writes one sum a row",
    r"(cross_entropy|kl)_kernel<.* const>": "writes one loss a row",
    r"pack_kernel<.*": "writes a few bits an element",
    r"drift_kernel<.*": "writes one record",
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


def occupancy(registers):
    """Share of a multiprocessor's threads that fit; registers are given to warps in units of 256."""
    per_block = -(-registers * 32 // 256) * 256 * (THREADS // 32)
    return min(REGISTERS // per_block * THREADS, MOST_THREADS) / MOST_THREADS


def total(counts, *starts, part=""):
    return sum(n for name, n in counts.items() if name.startswith(starts) and part in name)


def is_wide(kernel):
    first = re.match(r"\w+<\(?(?:int|bool)?\)?([^,>]+)", kernel)
    return bool(first) and (first[1] == "true" or (first[1].isdigit() and int(first[1]) > 1))


def excused(kernel, table):
    return any(re.fullmatch(pattern, kernel) for pattern in table)


def faults(kernel, usage, counts):
    if usage["STACK"] or usage["LOCAL"] or total(counts, "LDL", "STL"):
        yield "uses local memory"
    if total(counts, "DADD", "DMUL", "DFMA", "DSETP", "DMNMX") or total(counts, "F2", "I2", "MUFU", part="64F") or \
            total(counts, "F2F", "I2F", "F2I", part="F64"):
        yield "has float64 arithmetic"
    if occupancy(usage["REG"]) < 0.5:
        yield f"needs {usage['REG']} registers: {occupancy(usage['REG']):.0%} of the threads"
    if is_wide(kernel):
        if not total(counts, "LDG", part=".128") and not excused(kernel, NO_WIDE_LOAD):
            yield "has no 128-bit load"
        if not total(counts, "STG", part=".128") and not excused(kernel, NO_WIDE_STORE):
            yield "has no 128-bit store"


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
        rows.append([kernel, architecture, usage["REG"], f"{occupancy(usage['REG']):.2f}", usage["SHARED"],
                     total(counts, "LDG"), total(counts, "LDG", part=".128"),
                     total(counts, "STG"), total(counts, "STG", part=".128"),
                     total(counts, "SHFL"), total(counts, "BAR"), total(counts, "ATOM", "RED"), sum(counts.values())])
        found += [f"{kernel} ({architecture}) {fault}" for fault in faults(kernel, usage, counts)]
    lines = ["\t".join(map(str, row)) for row in [header] + rows]
    print("\n".join(lines))
    if options.tsv:
        with open(options.tsv, "w") as file:
            file.write("\n".join(lines) + "\n")
    print(f"{len(rows)} kernels, {len(found)} faults", *found, sep="\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
