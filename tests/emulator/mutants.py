#!/usr/bin/env python3
"""Checks the kernels' tests by breaking the kernels.

A mutant is a file of cuda/ with one change: a barrier or a store less, < for <=, + for -, another
rounding, another shuffle, 1 for 0. Each is compiled with g++ for the emulator and tested; tests that pass
have not seen the change. Such survivors are printed, and the exit code is 1, unless
equivalent_mutants.txt beside this script says why the change makes no difference.

    mutants.py --all                   all mutants of all kernels that have a test
    mutants.py --all grid.cu warp.h    all mutants of these files
    mutants.py --all warp.h --tests grid   the same, tested by grid_test.cpp alone
    mutants.py --sample 4              a few of all, always the same ones

A kernel x.cu is tested by tests/cuda/x_test.cpp and x_math_test.cpp, a header by the tests of every
kernel that includes it, directly or not; x_math.h first of all by the tests of its name.
"""

import argparse
import collections
import pathlib
import random
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
EMULATOR = ROOT / "tests" / "emulator"
EQUIVALENT = pathlib.Path(__file__).with_name("equivalent_mutants.txt")

COMMON = ["-ffp-contract=off", "-O1", "-g1", "-w"]
KERNEL = ["-x", "c++", "-std=c++17", "-include", str(EMULATOR / "emulator.h")]
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]

# How a program is built: flags of all objects, flags of the kernels alone, the emulator's sources.
SHARED_SOURCES = [
    EMULATOR / "fiber.cpp",
    EMULATOR / "scheduler.cpp",
    EMULATOR / "collectives.cpp",
    EMULATOR / "runtime.cpp",
    ROOT / "tests" / "cuda" / "support" / "emulated.cpp",
]
VARIANTS = {
    "plain": ([], [], EMULATOR / "no_races.cpp"),
    "race": ([], ["-fsanitize=thread"], EMULATOR / "races.cpp"),
    "asan": (SANITIZERS, [], EMULATOR / "no_races.cpp"),
}


# ---- mutants ----


class Mutant:
    """A file of cuda/ with `old` at `start` replaced by `new`."""

    def __init__(self, path, text, start, old, new, what):
        self.path = path
        self.text = text[:start] + new + text[start + len(old):]
        self.line = text.count("\n", 0, start) + 1
        first = text.rfind("\n", 0, start) + 1
        last = text.find("\n", start + len(old))
        before = " ".join(text[first:last].split())
        if what.startswith("without"):
            self.name = f"{what} {' '.join(old.split())}"
        else:
            self.name = " ".join((text[first:start] + new + text[start + len(old):last]).split())
        self.before = before
        self.is_barrier = what == "without the barrier"
        self.key = f"{path.name}: {self.name}"  # with " #2" behind it for the second of its name

    def __str__(self):
        return f"{self.path.relative_to(ROOT)}:{self.line}: {self.name}   (was: {self.before})"


def blank(text):
    """The text with comments, strings and preprocessor lines as spaces, at the same places."""
    pattern = re.compile(
        r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|^[ \t]*#(?:[^\n]*\\\n)*[^\n]*', re.S | re.M)
    return pattern.sub(lambda m: re.sub(r"[^\n]", " ", m.group()), text)


# Changes of one token: a pattern whose group is replaced.
SWAPS = [
    (r" (<) ", "<="), (r" (<=) ", "<"), (r" (>) ", ">="), (r" (>=) ", ">"),
    (r" (\+) ", "-"), (r" (-) ", "+"), (r" (\+=) ", "-="), (r" (-=) ", "+="),
    (r" (==) ", "!="), (r" (!=) ", "=="), (r" (&&) ", "||"), (r" (\|\|) ", "&&"),
    (r" (\*) ", "+"), (r" (/) ", "*"), (r" (%) ", "/"), (r" (&) ", "|"), (r" (<<) ", ">>"),
    (r"(?:[=(,?:]|\breturn) (-)(?=[\w(])", "+"), (r" = (0)(?=[.;,u])", "1"),
    (r"\b(rintf)\(", "floorf"), (r"\b(rint)\(", "floor"),
    (r"\b(__float2int_rn)\(", "__float2int_rd"), (r"\b(__frsqrt_rn)\(", "1.0f / sqrtf"),
    (r"\b(__shfl_down_sync)\(", "__shfl_up_sync"), (r"\b(__shfl_xor_sync)\(", "__shfl_down_sync"),
    (r"\b(kWarp / 2)\b", "kWarp / 4"),
    (r"\b(__shfl_(?:up|down|xor)_sync\([^;]*), \w+\)", None),
]

BARRIER = re.compile(r"\b__sync(?:threads|warp)\w*\([^;]*\);")
# Statements that store: an assignment to an element or through a pointer, or a call of a function
# that is known to store.
STORE = re.compile(
    r"(?<=[\s)])(?:[\w.>-]+\[[^=;]*\](?:\.\w+)? (?:[+|^&-]?=) [^;]*|\*[\w.>(][^=;]* = [^;]*|"
    r"(?:store\w*|__st\w+|atomic\w+)\([^;]*);")


def mutants_of(path):
    text = path.read_text()
    code = blank(text)
    found = []

    def add(start, old, new, what=""):
        found.append(Mutant(path, text, start, old, new, what))

    for pattern, new in SWAPS:
        for match in re.finditer(pattern, code):
            if new is not None:
                add(match.start(1), match.group(1), new)
            else:  # a shuffle's offset
                offset = match.group()[len(match.group(1)):]
                add(match.end(1), offset, f"{offset[:-1]} + 1)")
    for match in BARRIER.finditer(code):
        add(match.start(), text[match.start():match.end()], ";", "without the barrier")
    for match in STORE.finditer(code):
        if not re.search(r"(?:[;{})]|\belse)\s*$", code[:match.start()]):
            continue  # a declaration
        add(match.start(), text[match.start():match.end()], ";", "without")
    found.sort(key=lambda mutant: (mutant.line, mutant.name))
    same_name = collections.Counter()
    for mutant in found:
        same_name[mutant.name] += 1
        if same_name[mutant.name] > 1:
            mutant.key += f" #{same_name[mutant.name]}"
    return found


# ---- which tests a file has ----


def includes(path):
    """The files of cuda/ that a file includes, directly or not, and itself where it lies there."""
    seen, todo = set(), [path]
    while todo:
        file = todo.pop()
        if file in seen or not file.exists():
            continue
        seen.add(file)
        for name in re.findall(r'#include "(cuda/[\w/]+\.h)"', file.read_text()):
            todo += [ROOT / name, ROOT / "tests" / name]
    return {file for file in seen if file.parent == ROOT / "cuda"}


class Suite:
    """The tests of cuda/x.cu, or of cuda/x_math.h alone where there is no kernel of this name."""

    def __init__(self, name):
        self.name = name
        folder = ROOT / "tests" / "cuda"
        paths = (folder / f"{name}_math_test.cpp", folder / f"{name}_test.cpp")
        self.tests = [path for path in paths if path.exists()]
        kernel = ROOT / "cuda" / f"{name}.cu"
        self.files = includes(kernel if kernel.exists() else kernel.with_name(f"{name}_math.h"))
        # What the tests launch beside it.
        used = set().union(*(includes(test) for test in self.tests))
        kernels = {kernel} | {file.with_suffix(".cu") for file in used}
        self.kernels = sorted(path for path in kernels if path.exists())


def suites(names):
    """All of them, or those of these names."""
    tests = (ROOT / "tests" / "cuda").glob("*_test.cpp")
    found = {re.sub(r"(_math)?_test$", "", path.stem) for path in tests}
    all_suites = [Suite(name) for name in sorted(found) if not names or name in names]
    return [suite for suite in all_suites if suite.files]


# ---- building and running ----


class Builder:
    def __init__(self, options, work):
        self.options = options
        self.work = pathlib.Path(work)
        self.overlay = self.work / "overlay"  # the mutant's file, which is found first
        self.ccache = shutil.which("ccache")
        self.includes = [f"-I{ROOT}", f"-I{ROOT / 'tests'}"]
        for folder in filter(None, options.system_include):
            self.includes += ["-idirafter", folder]  # not -isystem: /usr/include may be one

    def command(self, *arguments):
        done = subprocess.run([str(argument) for argument in arguments], check=False, text=True,
                              errors="replace", stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        return done.returncode == 0, done.stdout

    def compile(self, source, target, flags, mutated):
        launcher = [self.ccache] if self.ccache and not mutated else []
        first = [f"-I{self.overlay}"] if mutated else []
        return self.command(*launcher, self.options.compiler, *COMMON, *flags, *first,
                            *self.includes, "-c", source, "-o", target)

    def object(self, source, variant, keep=True):
        """The object of a source for a variant; None where it does not compile."""
        flags, kernel_flags, _ = VARIANTS[variant]
        kernel = source.suffix == ".cu"
        flags = flags + (KERNEL + kernel_flags if kernel else ["-std=c++20"])
        # What a variant shares with plain is compiled once.
        of_its_own = variant == "asan" or (kernel and kernel_flags)
        folder = self.work / (variant if of_its_own else "plain")
        folder.mkdir(exist_ok=True)
        target = folder / f"{source.name}{'' if keep else '.mutant'}.o"
        if keep and target.exists():
            return target
        compiled, output = self.compile(source, target, flags, mutated=not keep)
        if keep and not compiled:
            sys.exit(f"{source} does not compile:\n{output}")
        return target if compiled else None

    def link(self, variant, objects):
        flags, _, races = VARIANTS[variant]
        program = self.work / f"test_{variant}"
        support = [self.object(source, variant) for source in SHARED_SOURCES + [races]]
        linked, output = self.command(self.options.compiler, *flags, *objects, *support,
                                      *self.options.library, "-lpthread", "-o", program)
        if not linked:
            sys.exit(f"{program} does not link:\n{output}")
        return program

    def passes(self, program):
        """Whether all tests of a program pass, within some seconds of processor time."""
        limit = (self.options.seconds, self.options.seconds)
        done = subprocess.run([program, "--gtest_fail_fast", "--gtest_brief=1"], check=False,
                              preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CPU, limit),
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return done.returncode == 0

    def verdict(self, mutant, tested_by):
        """'survives', 'caught' or 'does not compile'."""
        target = self.overlay / "cuda" / mutant.path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(mutant.text)
        try:
            for suite in tested_by:
                result = self.verdict_of(mutant, suite)
                if result != "survives":
                    return result
            return "survives"
        finally:
            target.unlink()

    def verdict_of(self, mutant, suite):
        order = ["race", "plain", "asan"] if mutant.is_barrier else ["plain", "race", "asan"]
        for variant in order:
            objects = []
            # Tests first: those of the arithmetic alone are quick to build and tell most.
            for source in suite.tests + suite.kernels:
                changed = mutant.path in includes(source)
                if source == mutant.path:
                    source = self.overlay / "cuda" / source.name
                built = self.object(source, variant, keep=not changed)
                if built is None:
                    return "does not compile"
                if changed and source.name.endswith("_math_test.cpp") and variant == "plain":
                    if not self.passes(self.link(variant, [built])):
                        return "caught"
                objects.insert(0, built)  # kernels come first: theirs are the linker's choice
            if not self.passes(self.link(variant, objects)):
                return "caught"
        return "survives"

    def check_unchanged(self, suite):
        for variant in VARIANTS:
            objects = [self.object(source, variant) for source in suite.kernels + suite.tests]
            if not self.passes(self.link(variant, objects)):
                sys.exit(f"the tests of {suite.name} fail without a mutation ({variant})")


# ---- the program ----


def equivalent_mutants():
    """The mutants that make no difference, each with the reason that follows it in the file."""
    reasons, key = {}, None
    for line in EQUIVALENT.read_text().splitlines():
        if line.startswith("#") or not line.strip():
            continue
        if line.startswith(" "):
            reasons[key] += line
        else:
            key = line.strip()
            reasons[key] = ""
    without = [key for key, reason in reasons.items() if not reason.strip()]
    if without:
        sys.exit(f"{EQUIVALENT.name} gives no reason for {without[0]}")
    return reasons


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", help="names of files in cuda/; all without")
    parser.add_argument("--all", action="store_true", help="all mutants")
    parser.add_argument("--sample", type=int, default=4, help="how many mutants without --all")
    parser.add_argument("--list", action="store_true", help="print the mutants and do nothing")
    parser.add_argument("--tests", nargs="*", help="names x of the x_test.cpp to use; all without")
    parser.add_argument("--verbose", action="store_true", help="print the other mutants, too")
    parser.add_argument("--compiler", default="g++")
    parser.add_argument("--system-include", nargs="*", default=["/usr/local/cuda/include"],
                        help="folders of CUDA's headers and GoogleTest's")
    parser.add_argument("--library", nargs="*", default=["-lgtest_main", "-lgtest"],
                        help="GoogleTest's libraries")
    parser.add_argument("--seconds", type=int, default=60,
                        help="processor time that a test program may take")
    options = parser.parse_args()

    tested = suites(options.tests)
    files = sorted(set().union(*(suite.files for suite in tested)))
    if options.files:
        files = [path for path in files if path.name in options.files]
        missing = set(options.files) - {path.name for path in files}
        if missing:
            sys.exit(f"no test is of {', '.join(sorted(missing))}")
    tested_by = {}
    for path in files:
        # First the tests of the same name, which are about the file.
        own = (path.stem, path.stem.removesuffix("_math"))
        tested_by[path] = sorted((suite for suite in tested if path in suite.files),
                                 key=lambda suite: suite.name not in own)
    mutants = [mutant for path in files for mutant in mutants_of(path)]
    if not options.all:
        mutants = random.Random(1).sample(mutants, min(options.sample, len(mutants)))
    if options.list:
        for mutant in mutants:
            print(mutant)
        return 0

    with tempfile.TemporaryDirectory(prefix="rev_mutants_") as work:
        return check(mutants, tested_by, Builder(options, work))


def check(mutants, tested_by, builder):
    """Prints what becomes of the mutants; returns the exit code."""
    options = builder.options
    used_suites = {suite.name: suite for tests in tested_by.values() for suite in tests}
    for suite in used_suites.values() if options.all else []:
        builder.check_unchanged(suite)
    known, used = equivalent_mutants(), set()
    counts = {"caught": 0, "survives": 0, "does not compile": 0, "equivalent": 0}
    began = time.monotonic()
    for number, mutant in enumerate(mutants, 1):
        if mutant.key in known:
            used.add(mutant.key)
            counts["equivalent"] += 1
            continue
        result = builder.verdict(mutant, tested_by[mutant.path])
        counts[result] += 1
        if result == "survives":
            print(f"survives: {mutant}", flush=True)
        elif options.verbose:
            print(f"{number} of {len(mutants)}, {result}: {mutant}", flush=True)
    summary = ", ".join(f"{count} {name}" for name, count in counts.items())
    print(f"{len(mutants)} mutants: {summary} ({time.monotonic() - began:.0f} s)")
    stale = set(known) - used if options.all and not options.files else set()
    for key in sorted(stale):
        print(f"listed as equivalent, but there is no such mutant: {key}")
    return 1 if counts["survives"] or stale else 0


if __name__ == "__main__":
    sys.exit(main())
