"""Writes captions of emoji as a text file, one a line, to measure a text encoder on: names, tags and short names, alone and in templates.

    python sentences.py EMOJI.json OUT.txt [COUNT]

COUNT distinct lines are drawn from all of them, always the same ones; without it all are written.
"""
import json
import pathlib
import random
import sys

TEMPLATES = ("{}", "{}s", "an emoji of {}", "a picture of {}, please", "Draw me {}!", "I would like to see {} in the Noto style.",
             "Is there anything better than {}? I don't think so.", "{} and {}", "not {} but {}", "{}, which everybody knows, next to {} (a small one)")


def captions(path):
    for c in json.loads(pathlib.Path(path).read_text(encoding="utf-8"))["captions"]:
        yield c["name"]
        yield " ".join(c["tags"])
        yield from c["short"]


def main(source, out, count=None):
    rng = random.Random(1)
    known = [c for c in dict.fromkeys(captions(source)) if c]
    lines = list(known)
    for _ in range(len(known)):
        template = rng.choice(TEMPLATES)
        lines.append(template.format(*rng.sample(known, template.count("{}"))))
    lines = list(dict.fromkeys(lines))
    if count:
        lines = rng.sample(lines, int(count))
    pathlib.Path(out).write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(len(lines), "lines")


main(*sys.argv[1:])
