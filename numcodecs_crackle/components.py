"""Connected components in three dimensions."""

from __future__ import annotations

from typing import Any, Literal, overload

import numpy as np
import numpy.typing as npt

from numcodecs_crackle import _native
from numcodecs_crackle.extras import progress_bar
from numcodecs_crackle.stream import label_groups, opened

__all__ = ["connected_components"]

# Slices between two steps of the progress bar.
_STEP = 16


@overload
def connected_components(
    binary: Any,
    connectivity: int = 26,
    binary_image: bool = False,
    memory_target: int = int(3.5e9),
    progress: bool = False,
    return_mapping: Literal[False] = False,
    parallel: int = 0,
) -> bytes: ...
@overload
def connected_components(
    binary: Any,
    connectivity: int = 26,
    binary_image: bool = False,
    memory_target: int = int(3.5e9),
    progress: bool = False,
    *,
    return_mapping: Literal[True],
    parallel: int = 0,
) -> tuple[bytes, dict[int, int]]: ...
@overload
def connected_components(
    binary: Any,
    connectivity: int = 26,
    binary_image: bool = False,
    memory_target: int = int(3.5e9),
    progress: bool = False,
    return_mapping: bool = False,
    parallel: int = 0,
) -> Any: ...
def connected_components(
    binary: Any,
    connectivity: int = 26,
    binary_image: bool = False,
    memory_target: int = int(3.5e9),
    progress: bool = False,
    return_mapping: bool = False,
    parallel: int = 0,
) -> Any:
    """Number the connected components of the labels; 0 is background.

    The components of slices that the stream has are joined by union-find over runs that
    touch. That takes about 20 bytes for each, and two slices' runs, whatever the size of the
    volume.

    Parameters
    ----------
    connectivity : 6, 18 or 26
        Voxels are connected by faces; by edges, too; by corners, too.
    binary_image : bool
        All labels but 0 count as one.
    memory_target : int
        For compatibility; less is needed.
    progress : bool
        Show a tqdm progress bar.
    return_mapping : bool
        Return also which label each component has.

    Returns
    -------
    bytes
        A stream of uint16 or, if there are more components, uint32. Components are numbered
        from 1 on by their first voxel in stream order.
    dict of component to label, 0 to 0, if ``return_mapping``
        With ``binary_image`` the label of its first voxel.

    Raises
    ------
    ValueError
        For another connectivity.
    """
    result, labels, has_background = numbered(
        binary, connectivity, binary_image, progress, parallel
    )
    if not return_mapping:
        return result
    mapping = {0: 0} if has_background else {}
    return result, mapping | dict(enumerate(labels.tolist(), 1))


def check_connectivity(connectivity: int) -> None:
    """ValueError for other than 6, 18 and 26."""
    if connectivity not in (6, 18, 26):
        raise ValueError(f"Only 6, 18, and 26 connectivity are supported. Got: {connectivity}")


def numbered(
    binary: Any,
    connectivity: int,
    binary_image: bool = False,
    progress: bool = False,
    parallel: int = 0,
) -> tuple[bytes, npt.NDArray[Any], bool]:
    """The stream of components, the label of each from 1 on, and whether there is background."""
    check_connectivity(connectivity)
    stream, head = opened(binary)
    stream.allow(stream.slices)  # of all, whatever a step has
    values, group = label_groups(stream, head.dtype)
    background = np.append(values == 0, True)  # the last one for NO_GROUP
    outside = background[np.minimum(group, len(values))]
    linked = np.where(outside, np.uint32(_native.NO_GROUP), np.uint32(0) if binary_image else group)
    keys = stream.keys(parallel)
    parent = np.arange(len(keys), dtype=np.uint32)
    for z in progress_bar(range(0, stream.slices, _STEP), progress, "Connected components"):
        stream.link(linked, connectivity, parent, z, min(z + _STEP, stream.slices))
    while True:
        above = parent[parent]
        if np.array_equal(above, parent):
            break
        parent = above
    foreground = ~outside[keys]
    is_root = foreground & (parent == np.arange(len(keys), dtype=np.uint32))
    number = np.cumsum(is_root, dtype=np.uint32)
    components = np.where(foreground, number[parent], np.uint32(0))
    count = int(number[-1]) if len(number) else 0
    result = _native.recode(
        stream,
        np.arange(count + 1, dtype=np.uint64),
        components,
        np.dtype(np.uint16 if count < 1 << 16 else np.uint32),
        by_component=True,
        drop_borders=True,
        markov_order=head.markov_model_order,
        parallel=parallel,
    )
    return result, values[group[keys[is_root]]], bool((~foreground).any())
