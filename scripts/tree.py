"""A copy of the repository in which a line may be changed, with an environment of its own."""

import contextlib
import os
import shutil
import signal
import subprocess
import sysconfig
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MEMORY_BYTES_MAX = 8 * 1024**3
"""A loop that has lost its end must not take the machine with it: `resource.RLIMIT_AS`."""


class Tree:
    """A copy of the repository whose programs import that copy, whatever environment they get."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "tree"
        self.output = folder / "output"
        kept_out = shutil.ignore_patterns(".git", ".*", "node_modules", "__pycache__")
        shutil.copytree(ROOT, self.root, ignore=kept_out, symlinks=True)
        if (beside := ROOT.parent / "shared").exists():  # some tests look there for examples
            (folder / "shared").symlink_to(beside)
        programs = self.root / ".venv" / "bin"
        venv.create(programs.parent, symlinks=True)
        for program in Path(sysconfig.get_path("scripts")).iterdir():
            if not program.name.startswith(("python", "echo-ingest", "activate")):
                with contextlib.suppress(FileExistsError):
                    (programs / program.name).symlink_to(program)
        self.python = programs / "python"
        # The .pth files of a folder that one names are not read: ours alone says where `src` is.
        (packages,) = programs.parent.glob("lib/python*/site-packages")
        libraries = sysconfig.get_path("purelib")
        (packages / "tree.pth").write_text(f"{self.root / 'src'}\n{libraries}\n")
        # Checked by what is in the file, not by its time: no change is ever overlooked.
        hashed = "compileall -q --invalidation-mode checked-hash src"
        subprocess.run([self.python, "-m", *hashed.split()], cwd=self.root, check=True)
        where = "import echo_ingest; print(echo_ingest.__file__)"
        ours = subprocess.check_output([self.python, "-c", where], cwd="/", env={}, text=True)
        assert Path(ours.strip()).is_relative_to(self.root), f"{ours} is not the copy"

    def run_pytest(self, *arguments: str, seconds: float | None = None) -> int | None:
        """Run pytest; return its exit code, None if it ran out of time. Its output is kept."""
        names = {"PYTHONPATH", "PYTHONDONTWRITEBYTECODE"}
        with self.output.open("wb") as output:
            program = subprocess.Popen(
                [self.python, "-m", "pytest", *arguments],
                cwd=self.root,
                env={name: value for name, value in os.environ.items() if name not in names},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            return program.wait(seconds)
        except subprocess.TimeoutExpired:
            program.send_signal(signal.SIGINT)  # it ends its servers then
            with contextlib.suppress(subprocess.TimeoutExpired):
                program.wait(30)
            return None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(program.pid, signal.SIGKILL)
            program.wait()
