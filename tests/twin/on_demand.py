# SPDX-License-Identifier: Apache-2.0
"""What comparisons on demand have in common: a configured build folder, a folder for their files, and how they end."""
from pathlib import Path
import shutil
import subprocess
import sys
import tempfile

import diffusers
import transformers


def parse(parser):
    parser.add_argument("--build", type=Path, default=Path("build"), help="a configured build folder (default: build)")
    parser.add_argument("--work", type=Path, help="an empty folder for the files, which stay; default: a temporary one")
    args = parser.parse_args()
    args.build = args.build.resolve()
    if not getattr(args, "program", None) and not (args.build / "CMakeCache.txt").exists():
        parser.error(f"--build {args.build}: not a configured build folder")
    if args.work and args.work.exists() and any(args.work.iterdir()):
        parser.error(f"--work {args.work}: expected an empty folder")
    return args


def run(args, compare):
    """compare(args, folder): whether all is well. Returns what to exit with."""
    diffusers.utils.logging.set_verbosity_error()
    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()
    folder = args.work or Path(tempfile.mkdtemp(prefix="compare_"))
    folder.mkdir(parents=True, exist_ok=True)
    try:
        return 0 if compare(args, folder.resolve()) else 1
    except subprocess.CalledProcessError as e:
        print(f"failed: {e}", file=sys.stderr)
        return 1
    finally:
        if not args.work:
            shutil.rmtree(folder)
