"""The mutants of the kernels: where they are in the text, which switch or change makes them, and which are known to change
no result."""

import dataclasses
import fnmatch
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
SOURCES = ["cuda/*.cu", "cuda/*.cuh", "tests/emulator_kernels.cuh"]


@dataclasses.dataclass
class Kind:
    name: str
    pattern: re.Pattern
    switch: str  # what stands in the place of the match; {0} is the match, {id} the mutant
    change: str  # the same without a switch
    builds: tuple  # in which order they are tried


def removed(name, call, *builds):
    return Kind(name, re.compile(rf"\b{call}(?=\()"), "xent::mutants::on<{id}>() ? void() : {0}", "true ? void() : {0}", builds)


WIDE = "(?:int64_t|long long|size_t|ptrdiff_t)"
KINDS = [
    removed("barrier", "__syncthreads", "plain", "races", "memory"),
    removed("warp", "__syncwarp", "plain", "races", "memory"),
    removed("fence", "__threadfence", "races", "plain", "memory"),
    Kind("bound", re.compile(r"(?<= )<(?=\s)"), "< xent::mutants::switched<{id}> >", "<=", ("plain", "memory", "races")),
    Kind("bound", re.compile(r"(?<= )>=(?=\s)"), ">= xent::mutants::switched<{id}> >", ">", ("plain", "memory", "races")),
    # Not pointers, references nor arguments of templates; but casts.
    Kind("narrow", re.compile(rf"(?<=static_cast<){WIDE}(?=>)|(?<!unsigned )(?<![<\w]){WIDE}\b(?!\s*[*&>,])"),
         "xent::mutants::Narrow<{id}, {0}>", "int", ("plain", "memory", "races")),
]


@dataclasses.dataclass
class Mutant:
    id: int
    kind: Kind
    file: str
    begin: int  # the characters of the file that change
    end: int
    line: int
    column: int
    source: str  # the line
    match: str
    reason: str = ""  # why it can change no result
    outcome: str = ""

    def __str__(self):
        return f"{self.file}:{self.line}:{self.column + 1}: {self.kind.name}: {self.source.strip()}"


def without_comments(text):
    """The same text with blanks for comments and strings: every character keeps its place."""
    words = r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"'
    return re.sub(words, lambda match: re.sub(r"[^\n]", " ", match[0]), text, flags=re.DOTALL)


def closing(code, at):
    """Where the brace or bracket that opens at `at` closes."""
    depth = 0
    for match in re.compile(r"[({\[]|[)}\]]").finditer(code, at):
        depth += 1 if match[0] in "({[" else -1
        if depth == 0:
            return match.end()
    return len(code)


def device_spans(code):
    """Where code of the device stands: functions with their parameters, and structs, of which kernels' arguments are."""
    spans = []
    for match in re.finditer(r"__global__|__device__|XENT_HOST_DEVICE|\bstruct \w+ (?:final )?(?:: \w+ )?(?=\{)", code):
        if spans and match.start() < spans[-1][1]:
            continue
        at = match.end()
        while at < len(code) and code[at] not in ";{":
            at = closing(code, at) if code[at] in "([" else at + 1
        if at < len(code) and code[at] == "{":
            spans.append((match.start(), closing(code, at)))
    return spans


def mutants_of(file, text):
    code = without_comments(text)
    spans = device_spans(code)
    lines = code.splitlines()
    found = []
    for kind in KINDS:
        for match in kind.pattern.finditer(code):
            line = code.count("\n", 0, match.start())
            # What is computed by the compiler has no switch.
            if lines[line].lstrip().startswith("#") or re.search(r"\bconstexpr\b|\bstatic_assert\b", lines[line]):
                continue
            if not any(begin <= match.start() < end for begin, end in spans):
                continue
            column = match.start() - (code.rfind("\n", 0, match.start()) + 1)
            found.append(Mutant(0, kind, file, match.start(), match.end(), line + 1, column, text.splitlines()[line],
                                match[0]))
    return sorted(found, key=lambda mutant: mutant.begin)


def all_mutants():
    files = sorted({str(path.relative_to(ROOT)) for pattern in SOURCES for path in ROOT.glob(pattern)})
    mutants = [mutant for file in files for mutant in mutants_of(file, (ROOT / file).read_text())]
    for number, mutant in enumerate(mutants):
        mutant.id = number
    return mutants


def mark_equivalent(mutants):
    """Reads mutants.equivalent: FILE | KIND | part of the line | reason, for mutants within that part of a line."""
    unused = []
    for number, entry in enumerate((Path(__file__).parent / "mutants.equivalent").read_text().splitlines(), 1):
        if not entry.strip() or entry.startswith("#"):
            continue
        file, kind, part, reason = (word.strip() for word in entry.split(" | "))
        marked = False
        for mutant in mutants:
            at = mutant.source.find(part)
            if (fnmatch.fnmatch(mutant.file, file) and kind == mutant.kind.name and at >= 0
                    and at <= mutant.column < at + len(part)):
                mutant.reason, marked = reason, True
        if not marked:
            unused.append(f"mutants.equivalent:{number}: fits no mutant: {entry}")
    if unused:
        sys.exit("\n".join(unused))


def replaced(text, changes):
    for begin, end, new in sorted(changes, reverse=True):
        text = text[:begin] + new + text[end:]
    return text


def with_switches(file, mutants):
    text = (ROOT / file).read_text()
    changes = [(m.begin, m.end, m.kind.switch.format(m.match, id=m.id)) for m in mutants if m.file == file]
    text = replaced(text, changes)
    if changes:  # the first line is a comment: the others keep their numbers
        text = "#include <xent/cuda/emulator/mutants.h>" + text[text.index("\n"):]
    return text.encode()
