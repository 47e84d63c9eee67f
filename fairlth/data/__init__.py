"""Data sets, from files to splits: what stands beside training.

`catalogue` knows where each set comes from, `pixels` makes one image an array, `listing` names the
images of a folder and `folder` reads them, `decode` reads parquet files and the hub, `cached` keeps
what was decoded, `splits` draws training, validation and test images.
"""

from fairlth.data.catalogue import SOURCES, Source
from fairlth.data.catalogue import add as add_source
from fairlth.data.decode import content, decoded, fingerprint
from fairlth.data.folder import add as add_folder
from fairlth.data.folder import look as look_through
from fairlth.data.splits import check, load, long_tailed, source_of
