"""A new user's way, in an environment that has the wheel and what the README says to install.

    python tests/try_wheel.py alone              with no extra
    python tests/try_wheel.py readme README.md   its blocks are pasted, one after another
    python tests/try_wheel.py notebook FILE      is opened, and all of it run

Everything happens in a temporary folder, so that nothing is imported from a clone.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ALONE = """
import sys, numpy as np, numcodecs, zarr
import numcodecs_crackle as ck
labels = np.arange(48**3, dtype="uint32").reshape(48, 48, 48) // 999
assert (ck.decompress(ck.compress(labels)) == labels).all()
for version, how in (
    (3, {"serializer": ck.CrackleCodec(), "compressors": None}),
    (2, {"compressors": numcodecs.get_codec({"id": "crackle"})}),
):
    store = zarr.storage.MemoryStore()
    zarr.create_array(
        store, data=labels, chunks=(20, 20, 20), zarr_format=version, **how
    )
    array = zarr.open_array(store)
    assert (array[:] == labels).all()
    volume = ck.LabelVolume(array)
    volume.remap({7: 8})
    assert volume.voxel_counts(8) == 2 * 999 and 7 not in volume
assert not {"matplotlib", "pyarrow", "dask", "tqdm", "scipy"} & set(sys.modules)
for missing, extra in (
    (lambda: volume.table(), "index"),
    (lambda: ck.save(labels, "labels.nii"), "files"),
    (lambda: volume.labels(progress=True), "cli"),
    (lambda: ck.CrackleArray(ck.compress(labels)).viewer(), "viewer"),
):
    try:
        missing()
    except ImportError as error:
        assert f"numcodecs-crackle[{extra}]" in str(error), error
    else:
        raise AssertionError(f"what needs [{extra}] is there")
print("alone:", ck.__version__, "of", ck.__file__)
"""


def typed(command: list[str], folder: str) -> None:
    programs = Path(sys.executable).parent  # as after `activate`
    environment = os.environ | {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}
    environment.pop("PYTHONPATH", None)
    subprocess.run(command, cwd=folder, env=environment, check=True)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        if sys.argv[1] == "alone":
            typed([sys.executable, "-W", "error", "-c", ALONE], folder)
            typed(["numcodecs-crackle", "--version"], folder)
            return
        if sys.argv[1] == "notebook":
            shutil.copy(sys.argv[2], folder)
            typed(["jupyter", "execute", Path(sys.argv[2]).name], folder)
            return
        blocks = re.findall(r"```python\n(.*?)```", Path(sys.argv[2]).read_text(), re.S)
        assert blocks
        typed([sys.executable, "-W", "error", "-c", "".join(blocks)], folder)
        print(f"{sys.argv[2]}: {len(blocks)} blocks")


if __name__ == "__main__":
    main()
