import re
import shlex
import sys
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "resume-a-run.md"


def test_the_commands_do_what_the_page_shows(tmp_path, run_python, ptb_here, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ran = []
    for block in re.findall(r"^```console\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.S | re.M):
        for part in re.split(r"^\$ ", block, flags=re.M)[1:]:
            command, *shown = part.splitlines()
            words = shlex.split(command)
            if words[1] == "verify":
                done = ptb_here(*words[1:])
            else:
                done = run_python([sys.executable, "-m", *words], cwd=tmp_path, timeout=300)
            assert done.returncode == 0, done.stderr
            for line in filter(lambda line: line != "...", shown):
                assert line.removesuffix("...") in done.stdout + done.stderr, command
            ran.append(words[1])
    assert ran == ["run", "resume", "run", "resume", "verify", "resume"]
