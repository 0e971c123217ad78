"""What every contestant in Python does: its arguments, and the loop that README.md describes."""
import json
import statistics
import sys
import time

import numpy as np


def arguments():
    """The words key=value of the command line; the word without = is the family."""
    return dict(w.split("=", 1) if "=" in w else ("family", w) for w in sys.argv[1:])


def serve(name, version, call):
    """Answers the driver. call runs the case once and returns its result, an array."""
    def answer(**values):
        print(json.dumps(values), flush=True)

    call()
    answer(ready=name, version=version)
    for line in sys.stdin:
        command, value = line.split()
        if command == "output":
            result = np.ascontiguousarray(call(), np.float32)
            result.tofile(value)
            answer(values=result.size)
        elif command == "run":
            times, now = [], time.perf_counter()
            end = now + float(value)
            while now < end:
                begin = now
                call()
                now = time.perf_counter()
                times.append(1e3 * (now - begin))
            answer(calls=len(times), median=statistics.median(times), least=min(times))
        else:
            sys.exit(f"no command is called {command}")
