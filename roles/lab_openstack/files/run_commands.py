"""Run several commands of one management tool, importing the tool once: most of the time of each is its import.

Called as: run_commands.py MODULE COMMAND..., where MODULE has a function main() that reads sys.argv, and each COMMAND is one string. Every
command runs in its own process, forked after the import, so that no state is shared. The first failure ends the run with its code;
2 counts as success, since these tools use it for "already exists".
"""

import importlib
import os
import shlex
import sys


def run(main, command: str) -> int:
    """The exit code of one command."""
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    sys.argv = shlex.split(command)
    try:
        code = main()
    except SystemExit as end:
        code = end.code
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))


def run_all(module: str, commands: list[str]) -> int:
    """Run the commands in order; returns the code of the first that failed, or 0."""
    main = importlib.import_module(module).main
    for command in commands:
        code = run(main, command)
        if code not in (0, 2):
            return code
    return 0


if __name__ == "__main__":
    sys.exit(run_all(sys.argv[1], sys.argv[2:]))
