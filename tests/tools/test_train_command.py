"""`uir-train` where torch is not installed."""

import subprocess
import sys

PROGRAM = "import sys; sys.modules['torch'] = None; from uir.tools.train import run; run()"


def test_without_torch_it_says_what_to_install() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM, "--help"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr == "uir-train: error: uir-train needs torch: pip install 'uir-edge[export]'\n"
