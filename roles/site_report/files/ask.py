"""Ask a host by its own commands, and print what each said, as a JSON list of {"name", "rc", "stdout", "stderr"} in the order asked.

Standard input: {"timeout": seconds for each, "queries": [{"name", "argv", "after": name of one that must have ended before}]}. What does
not end in time has `rc` 124, what is not there 127, as a shell would say.
"""

import concurrent.futures
import json
import subprocess
import sys


def ask(argv, timeout):
    try:
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=timeout, check=False
        )
    except subprocess.TimeoutExpired:
        return {"rc": 124, "stdout": "", "stderr": f"{argv[0]} did not end within {timeout:g} s"}
    except OSError as error:
        return {"rc": 127, "stdout": "", "stderr": f"{argv[0]}: {error.strerror}"}
    return {"rc": done.returncode, "stdout": done.stdout, "stderr": done.stderr}


def asked(queries, timeout):
    """All of them side by side, but for those that come after another, which stands before them in the list."""
    with concurrent.futures.ThreadPoolExecutor(max_workers=max(1, len(queries))) as pool:
        started = {}

        def answer(query):
            if "after" in query:
                concurrent.futures.wait([started[query["after"]]])
            return {"name": query["name"], **ask(query["argv"], timeout)}

        for query in queries:
            started[query["name"]] = pool.submit(answer, query)
        return [started[query["name"]].result() for query in queries]


if __name__ == "__main__":
    wish = json.load(sys.stdin)
    print(json.dumps(asked(wish["queries"], wish["timeout"])))
