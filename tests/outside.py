"""Environments with nothing of this repository on the path: what an outsider has. Nothing is downloaded."""

import os
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Outside:
    """A virtual environment and a folder to work in."""

    venv: Path
    folder: Path

    @property
    def python(self):
        return self.venv / "bin" / "python"

    def run(self, *command, check=True):
        """Run a command in the folder; pip finds nothing but local files, and builds with what is installed."""
        environment = {
            "PATH": f"{self.venv / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(self.folder),
            "OMP_NUM_THREADS": "1",
            "PIP_NO_INDEX": "1",
            "PIP_NO_BUILD_ISOLATION": "0",  # pip's spelling of --no-build-isolation
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        }
        done = subprocess.run(
            [str(c) for c in command], cwd=self.folder, env=environment, capture_output=True, text=True, check=False
        )
        assert not check or done.returncode == 0, f"{command}: exit code {done.returncode}\n{done.stdout}{done.stderr}"
        return done


def make_outside(folder, *, core_wheel=True):
    """Make an environment with the libraries of this one, pip and hatchling, and with attnzoo from its wheel.

    ``core_wheel=False`` takes attnzoo from the source tree instead, which is quicker.
    """
    folder.mkdir(parents=True, exist_ok=True)
    venv = folder / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
    here = Path(sysconfig.get_paths()["purelib"])
    site = next((venv / "lib").glob("python*")) / "site-packages"
    for entry in here.iterdir():
        ours = "attnzoo" in entry.name.lower() and (core_wheel or not entry.name.startswith("attnzoo-"))
        if not ours and entry.suffix != ".pth" and entry.name != "__pycache__":
            (site / entry.name).symlink_to(entry)
    work = folder / "work"
    work.mkdir()
    outside = Outside(venv, work)
    if core_wheel:
        outside.run(outside.python, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", folder / "wheels", ROOT)
        (wheel,) = (folder / "wheels").glob("attnzoo-*.whl")
        outside.run(outside.python, "-m", "pip", "install", "--no-deps", wheel)
    else:
        (site / "source.pth").write_text(f"{ROOT}\n")
    return outside


def copy_tree(source, target):
    """Copy a folder without what builds and runs leave behind."""
    return shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "dist", ".pytest_cache"))
