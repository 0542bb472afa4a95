"""Files in and out: stacks and tilts become a `TiltSeries`, volumes become a folder of results."""

from __future__ import annotations

from recon.io.folder import OutputFolder, check_disk, check_target, whole_file
from recon.io.read import read
from recon.io.stacks import STACK_TYPES, read_stack
from recon.io.tilts import read_tilts
from recon.io.volumes import FORMATS, check_formats, find_volume, read_volume, write, write_volume, write_volumes

__all__ = [
    "FORMATS",
    "STACK_TYPES",
    "OutputFolder",
    "check_disk",
    "check_formats",
    "check_target",
    "find_volume",
    "read",
    "read_stack",
    "read_tilts",
    "read_volume",
    "whole_file",
    "write",
    "write_volume",
    "write_volumes",
]
