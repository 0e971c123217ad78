"""Compiles every GPU kernel, kernels/*/*.cu, to the PTX beside it: ./build.sh ptx [-check] [FAMILY ...]

A hopper.cu becomes sm90a.ptx, any other sm80.ptx. The compiler is that of requirements.txt, installed into the user's cache
folder on first use. Every PTX is assembled for each of its targets, which fails on a spill, and entries.md gets the registers
and the shared memory of every entry. With -check nothing is written, and a committed file that differs is an error.
"""

import collections
import concurrent.futures
import ctypes
import hashlib
import os
import pathlib
import platform
import re
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
HEADERS = ROOT / "kernels/internal/cuda"
TABLE = HERE / "entries.md"
OPTIONS = ["--std=c++17", "--device-as-default-execution-space"]
TARGETS = {"sm80": ["sm_80", "sm_86", "sm_89", "sm_90", "sm_90a"],  # the last is the newest that this ptxas knows
           "sm90a": ["sm_90a"]}


def form(source):
    """Returns what a .cu file is compiled for."""
    return "sm90a" if source.stem == "hopper" else "sm80"


def compiled(source):
    """Returns where the PTX of a .cu file is."""
    return source.parent / (form(source) + ".ptx")


def toolchain():
    """Returns the folder that holds the pinned packages; installs them if it is not there."""
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        sys.exit("ptx: the pinned compiler is for Linux on x86-64")
    requirements = (HERE / "requirements.txt").read_bytes()
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache")
    folder = cache / "netfusion-cuda" / hashlib.sha256(requirements).hexdigest()[:12]
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
            command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps",
                       "--only-binary", ":all:", "--require-hashes", "--target", temporary + "/packages",
                       "--requirement", str(HERE / "requirements.txt")]
            print("+", " ".join(command[1:]))
            subprocess.run(command, check=True)
            try:
                os.rename(temporary + "/packages", folder)
            except OSError:
                if not folder.exists():  # another run was faster
                    raise
    return folder / "nvidia"


class Compiler:
    """NVRTC, by its C interface."""

    def __init__(self, tools):
        self.lib = ctypes.CDLL(str(tools / "cuda_nvrtc/lib/libnvrtc.so.12"))
        self.lib.nvrtcGetErrorString.restype = ctypes.c_char_p

    def call(self, name, *arguments):
        status = getattr(self.lib, name)(*arguments)
        if status != 0:
            raise RuntimeError(f"{name}: {self.lib.nvrtcGetErrorString(status).decode()}")

    def text(self, program, what):
        size = ctypes.c_size_t()
        self.call(f"nvrtcGet{what}Size", program, ctypes.byref(size))
        buffer = ctypes.create_string_buffer(size.value)
        self.call(f"nvrtcGet{what}", program, buffer)
        return buffer.value.decode()

    def compile(self, source):
        """Returns the PTX of a .cu file."""
        program = ctypes.c_void_p()
        self.call("nvrtcCreateProgram", ctypes.byref(program), source.read_bytes(), source.name.encode(), 0, None, None)
        target = "--gpu-architecture=" + form(source).replace("sm", "compute_")
        options = [o.encode() for o in [target, *OPTIONS, f"--include-path={HEADERS}"]]
        try:
            self.call("nvrtcCompileProgram", program, len(options), (ctypes.c_char_p * len(options))(*options))
        except RuntimeError:
            sys.exit(f"{source.relative_to(ROOT)}:\n{self.text(program, 'ProgramLog')}")
        log = self.text(program, "ProgramLog").strip()
        if log:
            sys.exit(f"{source.relative_to(ROOT)}: warnings\n{log}")
        return self.text(program, "PTX")


def stable(compiler, source):
    """Returns the PTX of a .cu file, the committed one if the compiler still gives it.

    Now and then the compiler joins neighbouring loads or stores otherwise, as its own memory happens to lie; where that was seen,
    kernels/internal/cuda/wide.cuh leaves it no choice. The most frequent text counts.
    """
    path = compiled(source)
    committed = path.read_text() if path.exists() else None
    texts = collections.Counter()
    for _ in range(6):
        ptx = compiler.compile(source)
        if ptx == committed:
            return ptx
        texts[ptx] += 1
    return texts.most_common(1)[0][0]


def assemble(ptxas, ptx, target):
    """Returns {entry: (registers, static shared bytes)} of a PTX text; a spill ends the program."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "kernel.ptx"
        path.write_text(ptx)
        run = subprocess.run([ptxas, "-v", f"-arch={target}", "-o", "/dev/null", str(path)], capture_output=True, text=True)
    if run.returncode != 0:
        sys.exit(run.stderr)
    entries = {}
    for chunk in run.stderr.split("Compiling entry function '")[1:]:
        name = chunk.split("'", 1)[0]
        spills = [int(n) for n in re.findall(r"(\d+) bytes spill", chunk)]
        stack = int(re.search(r"(\d+) bytes stack frame", chunk).group(1))
        if any(spills) or stack:
            sys.exit(f"ptx: {name} spills on {target}: {sum(spills)} bytes, stack frame {stack}")
        shared = re.search(r"(\d+) bytes smem", chunk)
        entries[name] = int(re.search(r"Used (\d+) registers", chunk).group(1)), int(shared.group(1)) if shared else 0
    return entries


def rows(source, ptx, ptxas):
    """Returns the family's lines of the table."""
    targets = TARGETS[form(source)]
    per_target = [assemble(ptxas, ptx, t) for t in targets]
    threads = dict(re.findall(r"\.entry (\w+)\([^)]*\)\s*\.maxntid (\d+)", ptx))
    lines = [f"\n`{source.parent.name}/{form(source)}.ptx` sha256 {hashlib.sha256(ptx.encode()).hexdigest()}\n",
             "| entry | threads | shared bytes | " + " | ".join(targets) + " |",
             "| --- | ---: | ---: |" + " ---: |" * len(targets)]
    for name in sorted(per_target[0]):
        registers = " | ".join(str(p[name][0]) for p in per_target)
        lines.append(f"| {name} | {threads[name]} | {per_target[0][name][1]} | {registers} |")
    return lines


def main():
    arguments = sys.argv[1:]
    check = "-check" in arguments
    families = [a for a in arguments if a != "-check"]
    tools = toolchain()
    ptxas = str(tools / "cuda_nvcc/bin/ptxas")
    compiler = Compiler(tools)
    sources = sorted(ROOT.glob("kernels/*/*.cu"), key=lambda s: (s.parent.name, form(s)))
    unknown = set(families) - {s.parent.name for s in sources}
    if unknown:
        sys.exit(f"ptx: no kernels in {', '.join(sorted(unknown))}")
    stale = []

    def settle(path, text):
        """Writes a file that has changed, or notes it."""
        if path.exists() and path.read_text() == text:
            return
        stale.append(str(path.relative_to(ROOT)))
        if not check:
            path.write_text(text)
            print("wrote", stale[-1])

    def family(source):
        if families and source.parent.name not in families:
            return rows(source, compiled(source).read_text(), ptxas)
        ptx = stable(compiler, source)
        lines = rows(source, ptx, ptxas)
        settle(compiled(source), ptx)
        return lines

    table = ["# Registers per thread of every GPU kernel", "",
             "Written by `./build.sh ptx`: what ptxas 12.4 gives each entry on each target. No entry spills. Shared memory is what",
             "the entry declares, without dynamic one; threads is the size of its blocks."]
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for lines in pool.map(family, sources):
            table += lines
    settle(TABLE, "\n".join(table) + "\n")
    if check and stale:
        sys.exit("ptx: ./build.sh ptx would change " + ", ".join(stale))
    print(f"ptx: {len(sources)} texts assemble for {', '.join(TARGETS['sm80'])} without spills")


main()
