"""What is said where a file cannot be written, and free names beside files that stay."""

import errno
import os

import pytest

from fairlth.config import paths

CURES = {
    errno.ENOSPC: "make room on its disk",
    errno.EDQUOT: "make room on its disk",
    errno.EACCES: "give it a folder with room and access",
}


@pytest.mark.parametrize("number", CURES)
def test_the_cure_is_of_the_error(number, tmp_path, monkeypatch):
    def fail(*arguments):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match=rf"x.json could not be written \(.+\): {CURES[number]}"):
        paths.write_atomically(tmp_path / "x.json", b"")


def test_a_name_that_is_too_long_is_called_so(tmp_path):
    with pytest.raises(OSError, match=r"\(File name too long\): choose shorter names"):
        paths.write_atomically(tmp_path / ("x" * 240), b"")


def test_a_free_name_is_the_first_that_nothing_has(tmp_path):
    path = tmp_path / "x.aside"
    assert paths.free_name(path) == path
    path.write_text("")
    (tmp_path / "x.aside.2").symlink_to("nowhere")
    assert paths.free_name(path) == tmp_path / "x.aside.3"
