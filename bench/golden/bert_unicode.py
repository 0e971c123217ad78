"""Writes experts/bert/unicode.txt: what the official `tokenizers` does to every Unicode scalar on the way to BERT's WordPiece.

    python bert_unicode.py OUT.txt

Asked of the library itself, scalar by scalar, because its tables are those of no single Unicode version: the general categories are frozen near Unicode 8
while lower-casing follows the compiler that built it. A tokenizer made from a language's current tables gives other ids for hundreds of code points, and for
others again after each upgrade of the language.
"""
import sys

import tokenizers
from tokenizers import normalizers, pre_tokenizers

SCALARS = [chr(c) for c in range(0x110000) if not 0xD800 <= c <= 0xDFFF]


def normalizer(**on):
    flags = dict(clean_text=False, handle_chinese_chars=False, strip_accents=False, lowercase=False)
    return normalizers.BertNormalizer(**{**flags, **on}).normalize_str


CLEAN = normalizer(clean_text=True)
CJK = normalizer(handle_chinese_chars=True)
FOLD = normalizer(strip_accents=True, lowercase=True)
SPLIT = pre_tokenizers.BertPreTokenizer().pre_tokenize_str


def kind(c):
    cleaned = CLEAN("a" + c + "b")
    if cleaned == "ab":
        return "drop"
    if cleaned == "a b":
        return "space"
    assert cleaned == "a" + c + "b", hex(ord(c))
    if CJK(c) != c:
        return "cjk"
    if FOLD("a" + c + "b") == "ab":
        return "mark"
    pieces = len(SPLIT("a" + c + "b"))
    assert pieces in (1, 3), hex(ord(c))
    return "punctuation" if pieces == 3 else ""


def ranges(members):
    out = []
    for c in members:
        if out and c == out[-1][1] + 1:
            out[-1][1] = c
        else:
            out.append([c, c])
    return [f"{a:X}" if a == b else f"{a:X}-{b:X}" for a, b in out]


def wrap(words, width):
    line = ""
    for w in words:
        if line and len(line) + 1 + len(w) > width:
            yield line
            line = w
        else:
            line = line + " " + w if line else w
    if line:
        yield line


def main():
    kinds = {}
    for c in SCALARS:
        kinds.setdefault(kind(c), []).append(ord(c))
    folds = []
    for c in SCALARS:
        if 0xAC00 <= ord(c) <= 0xD7A3 or ord(c) < 0x80:
            continue  # Hangul is decomposed by rule; ASCII is lower-cased by rule
        if kinds_of(c, kinds) in ("drop", "space", "mark"):
            continue
        f = FOLD(c)
        if f != c:
            folds.append(c + f)
    with open(sys.argv[1], "w", encoding="utf-8", newline="\n") as out:
        out.write(f"# BERT's Unicode, as tokenizers {tokenizers.__version__} has it. Made by bench/golden/bert_unicode.py; see there for why.\n"
                  "# Ranges are hexadecimal. \"fold\" lines: a character, then what stands for it once accents are stripped and case is folded.\n")
        for name in ("drop", "space", "cjk", "mark", "punctuation"):
            for line in wrap(ranges(kinds[name]), 150):
                out.write(f"{name} {line}\n")
        for line in wrap(folds, 90):
            out.write(f"fold {line}\n")


def kinds_of(c, kinds, cache={}):
    if not cache:
        cache.update((m, name) for name, members in kinds.items() for m in members)
    return cache[ord(c)]


main()
