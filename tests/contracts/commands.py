"""Runs commands of `lightning`, one after the other, each in a fork of a process that has imported everything.

    python commands.py FOLDER < COMMANDS

COMMANDS is a JSON list of lists of words. Prints a JSON list of [status, what was said].
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import traceback

import torch

from lightning_emerge.cli import main


def run(words: list[str]) -> tuple[int, str]:
    with tempfile.TemporaryFile("w+") as said:
        child = os.fork()
        if not child:
            code = 70
            try:
                os.dup2(said.fileno(), 1)
                os.dup2(said.fileno(), 2)
                main(words)
                code = 0
            except SystemExit as ended:
                code = ended.code if isinstance(ended.code, int) else int(bool(ended.code))
            except BaseException:
                traceback.print_exc()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
        _, status = os.waitpid(child, 0)
        said.seek(0)
        return os.waitstatus_to_exitcode(status), said.read()


if __name__ == "__main__":
    torch.set_num_threads(1)
    os.chdir(sys.argv[1])
    sys.stdout.write(json.dumps([run(words) for words in json.load(sys.stdin)]))
