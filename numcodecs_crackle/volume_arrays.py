"""New arrays from a `LabelVolume`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Unpack

import numpy as np
import numpy.typing as npt

from numcodecs_crackle.chunk_components import connected_components
from numcodecs_crackle.chunk_downsample import downsample
from numcodecs_crackle.volume_work import VolumeWork
from numcodecs_crackle.work import How

__all__ = ["VolumeArrays"]


class VolumeArrays(VolumeWork):
    """Operations on the whole volume, whose result is another one."""

    def connected_components(
        self,
        store: Any,
        connectivity: int = 26,
        *,
        dtype: npt.DTypeLike = np.uint64,
        binary_image: bool = False,
        name: str | None = None,
        overwrite: bool = False,
        storage_options: dict[str, Any] | None = None,
        **how: Unpack[How],
    ) -> Any:
        """Number the connected components of the labels, over chunks, into a new array.

        Components are numbered from 1 on by their first voxel: by the chunk that it is in, in
        C order of the chunks, and then by its place in the chunk, in the order in which chunks
        are coded (C order, but for transposed arrays and Zarr 2's order="F"). Label 0 is
        background, and stays 0.

        Parameters
        ----------
        store, name, overwrite, storage_options
            Where the new array is to be, as of ``zarr.create_array``. With ``overwrite`` what is
            there is removed before the work begins.
        connectivity : 6, 18 or 26
            Voxels are connected by faces; by edges, too; by corners, too. In an array of 2
            axes 6 is by edges, and 18 and 26 by corners, too.
        dtype
            Of the numbers.
        binary_image : bool
            All labels but 0 count as one.

        Returns
        -------
        zarr.Array
            With the shape, chunks, shards, axis names, format and codecs of this one, its fill
            value 0. What is all background is not stored.

        Raises
        ------
        ValueError
            For another connectivity; if more than 3 axes are longer than 1; for a store that
            ``executor`` can't write to, and for a place within this array, or around it.
        OverflowError
            If the numbers do not fit the dtype, before any is written.
        FormatError
            For a damaged chunk, whatever ``on_error``.
        RuntimeError
            If a chunk was changed meanwhile.

        Notes
        -----
        Every chunk is read twice: to find what meets over borders, and to write its numbers.
        Memory is bounded by the chunks in flight, the outermost voxels, compressed, of up to
        one layer of chunks, some 40 bytes a component of each chunk, and 20 bytes a chunk.
        After an error the new array is not complete; call again with ``overwrite=True``.
        """
        options = {"name": name, "overwrite": overwrite, "storage_options": storage_options}
        how = self._options(how)
        return connected_components(
            self._store, store, connectivity, dtype, binary_image, options, how
        )

    def downsample(
        self,
        store: Any,
        factors: int | Sequence[int] = 2,
        *,
        sparse: bool = False,
        chunks: Sequence[int] | None = None,
        name: str | None = None,
        overwrite: bool = False,
        storage_options: dict[str, Any] | None = None,
        **how: Unpack[How],
    ) -> Any:
        """Halve the volume along some axes, by the most frequent label, into a new array.

        Each block of voxels becomes its most frequent label. Of labels that are equally
        frequent it is the one that reaches its count first, in C order of the block's voxels;
        but if no two voxels of a whole block are equal, it is the last voxel's. So a whole
        block of 2 x 2 becomes what `mode_pooling_2x2x1` makes of it. Of a block that the
        array's edge cuts the voxels there count.

        Parameters
        ----------
        store, name, overwrite, storage_options
            Where the new array is to be, as of ``zarr.create_array``. With ``overwrite`` what is
            there is removed before the work begins.
        factors : 1, 2, or a sequence of these
            For all axes, or for each.
        sparse : bool
            Label 0 does not count where there is another.
        chunks : sequence of int, optional
            Of the new array; by default as of this one. A shard has as many as here.

        Returns
        -------
        zarr.Array
            Of shape ceil(n / factor), with the dtype, shards, axis names, fill value, format
            and codecs of this one. What is all of the fill value is not stored.

        Raises
        ------
        ValueError
            For other factors, or chunks of other axes; for a store that ``executor`` can't
            write to, and for a place within this array, or around it.
        FormatError
            For a damaged chunk, whatever ``on_error``.

        Notes
        -----
        Work is done by objects of the new array, of which each is written once. At a time the
        voxels of one chunk are decoded; where chunks are not a multiple of the factor long,
        of all those below a new chunk. After an error the new array is not complete; call
        again with ``overwrite=True``.
        """
        options = {"name": name, "overwrite": overwrite, "storage_options": storage_options}
        how = self._options(how)
        return downsample(self._store, store, factors, sparse, chunks, options, how)
