"""Data sets, from files to splits: what stands beside training.

`catalogue` knows where each set comes from, `pixels` makes one image an array, `listing` names the
images of a folder and `folder` reads them, `decode` reads parquet files and the hub, `cached` keeps
what was decoded, `splits` draws training, validation and test images.
"""

from fairlth.data.catalogue import SOURCES as SOURCES
from fairlth.data.catalogue import Source as Source
from fairlth.data.catalogue import add as add_source
from fairlth.data.decode import content as content
from fairlth.data.decode import decoded as decoded
from fairlth.data.decode import fingerprint as fingerprint
from fairlth.data.folder import add as add_folder
from fairlth.data.folder import look as look_through
from fairlth.data.splits import check as check
from fairlth.data.splits import load as load
from fairlth.data.splits import long_tailed as long_tailed
from fairlth.data.splits import source_of as source_of

__all__ = [
    "SOURCES",
    "Source",
    "add_folder",
    "add_source",
    "check",
    "content",
    "decoded",
    "fingerprint",
    "load",
    "long_tailed",
    "look_through",
    "source_of",
]
