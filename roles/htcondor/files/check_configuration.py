"""Check a complete set of HTCondor configuration files in a scratch directory, and report what applying it requires.

Reads JSON from standard input: {"files": {name: text}, "remove": [names], "restart": [parameters], "expressions": [parameters],
"maps": {path: text}, "unit": {path: text}, "journal": path}. Files of config.d that are not listed stay as they are.

Prints {"installed", "running", "reconfigure", "restart": [parameters], "pending", "journal"}; ends with 1 and the reason on standard error
when the set is invalid. The journal lists what has to be applied until it is, so that an interrupted run is completed by the next one
(`pending`): then the files are up to date already and show nothing of what the daemons run with. It is on a file system that a reboot
clears, because the daemons then read everything.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

CONDOR = "/etc/condor"
LIVE = os.path.join(CONDOR, "config.d")
TOP = os.path.join(CONDOR, "condor_config")


def dump(top, *flags):
    """The parameters under that top-level file; the reason is raised when HTCondor cannot read it."""
    done = subprocess.run(
        ["condor_config_val", "-dump", *flags], env={**os.environ, "CONDOR_CONFIG": top}, capture_output=True, text=True, check=False
    )
    # HTCondor goes on after some errors, with words on standard error and a return code of 0.
    if done.returncode != 0 or re.search(r"error", done.stderr, re.IGNORECASE):
        raise ValueError((done.stderr or done.stdout).strip())
    pairs = (line.split(" = ", 1) for line in done.stdout.splitlines() if " = " in line and not line.startswith("#"))
    return {name.strip().upper(): text for name, text in pairs}


def values(top):
    """The effective parameters. What is drawn by lot each time it is read ($RANDOM_INTEGER) stays as it is written."""
    return {**dump(top, "-expanded"), **{name: text for name, text in dump(top).items() if "$RANDOM_" in text}}


def lay(scratch, files, remove):
    """The wished set beside the real one: a top-level file that reads only the scratch directory."""
    directory = os.path.join(scratch, "config.d")
    shutil.copytree(LIVE, directory)
    for name in remove:
        if os.path.exists(os.path.join(directory, name)):
            os.unlink(os.path.join(directory, name))
    for name, text in files.items():
        with open(os.path.join(directory, name), "w", encoding="utf-8") as out:
            out.write(text)
    with open(TOP, encoding="utf-8") as source:
        text = source.read()
    top = os.path.join(scratch, "condor_config")
    with open(top, "w", encoding="utf-8") as out:
        out.write(text.replace(LIVE, directory))
    return top, directory


def broken_expression(wished, names):
    """What is wrong with the first expression that is none, or an empty text."""
    try:
        import classad2
    except ImportError:  # a platform without the bindings: HTCondor will tell, later
        return ""
    for name in names:
        text = wished.get(name.upper())
        if not (text or "").strip():  # HTCondor's own default of some is an empty text: nothing to read
            continue
        try:
            classad2.ExprTree(text)
        except Exception as error:
            return "%s is not a ClassAd expression: %s\n%s" % (name, error, text)
    return ""


def differs(files):
    """Whether one of the files is not there as wished; white space aside."""

    def present(path):
        try:
            with open(path, encoding="utf-8") as source:
                return source.read().split()
        except OSError:
            return None

    return any(present(path) != text.split() for path, text in files.items())


def noted(path):
    """What an earlier run noted and did not take up, or None."""
    try:
        with open(path, encoding="utf-8") as source:
            found = json.load(source)
        return {"reconfigure": bool(found["reconfigure"]), "restart": [str(name) for name in found["restart"]]}
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError):
        return {"reconfigure": True, "restart": []}


def plan(running, differing, wish, left):
    """What taking up the set needs, with what an earlier run left, and what has to be noted before a file is changed."""
    restart = {name for name in wish["restart"] if name.upper() in differing}
    reconfigure = bool(differing)
    if not running:  # it reads everything when it starts
        return {"running": False, "reconfigure": reconfigure, "restart": sorted(restart), "pending": False, "journal": None}
    if left:
        restart, reconfigure = restart | set(left["restart"]), reconfigure or left["reconfigure"]
    journal = {
        "reconfigure": reconfigure or differs(wish["maps"]),
        "restart": sorted(restart | ({"condor.service"} if differs(wish["unit"]) else set())),
    }
    return {
        "running": True,
        "reconfigure": reconfigure,
        "restart": sorted(restart),
        "pending": bool(left),
        "journal": journal if journal["reconfigure"] or journal["restart"] else None,
    }


def main():
    wish = json.load(sys.stdin)
    if not shutil.which("condor_config_val"):
        print(json.dumps({"installed": False, "running": False, "reconfigure": True, "restart": [], "pending": False, "journal": None}))
        return 0
    running = subprocess.run(["systemctl", "is-active", "--quiet", "condor.service"], check=False).returncode == 0
    with tempfile.TemporaryDirectory(prefix="condor-check-") as scratch:
        top, directory = lay(scratch, wish["files"], wish["remove"])
        try:
            wished = values(top)
        except ValueError as error:
            sys.stderr.write("The new HTCondor configuration cannot be read, nothing was changed.\n%s\n" % error)
            return 1
        reason = broken_expression(wished, wish["expressions"])
        if reason:
            sys.stderr.write("The new HTCondor configuration is wrong, nothing was changed.\n%s\n" % reason)
            return 1
        wished = {name: text.replace(directory, LIVE).replace(top, TOP) for name, text in wished.items()}
    try:
        present = values(TOP)
    except ValueError:
        present = {}
    volatile = {"PID", "PPID", "CONFIG_ROOT", "REAL_UID", "REAL_GID", "CONDOR_CONFIG", "LOCAL_CONFIG_DIR"}
    differing = {name for name in wished.keys() | present.keys() if wished.get(name) != present.get(name)} - volatile
    print(json.dumps({"installed": True, **plan(running, differing, wish, noted(wish["journal"]))}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
