"""Writing files: whole or not at all, and never over somebody's work."""

from __future__ import annotations

import os

import pytest

from archc.diagnostics import ArchError
from archc.output import GENERATED, guard, write, write_all


def code(error: pytest.ExceptionInfo[ArchError]) -> str:
    return error.value.diagnostics[0].code


def test_a_text_is_written_as_it_is(tmp_path):
    write(tmp_path / "a.py", "x = 'é'\r\n")
    assert (tmp_path / "a.py").read_bytes() == "x = 'é'\r\n".encode()
    assert [path.name for path in tmp_path.iterdir()] == ["a.py"]


def test_missing_folders_are_made(tmp_path):
    write(tmp_path / "a" / "b" / "c.py", "")
    assert (tmp_path / "a" / "b" / "c.py").is_file()


def test_a_refused_text_leaves_nothing_behind(tmp_path):
    old = tmp_path / "old.py"
    old.write_text("old")

    def refuse(path, text):
        if path.name == "second.py":
            raise RuntimeError("no")

    files = {old: "new", tmp_path / "made" / "first.py": "1", tmp_path / "second.py": "2"}
    with pytest.raises(RuntimeError):
        write_all(files, refuse)
    assert [path.name for path in tmp_path.iterdir()] == ["old.py"]
    assert old.read_text() == "old"


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit, MemoryError])
def test_an_interruption_leaves_nothing_behind(tmp_path, interruption):
    def interrupt(path, text):
        raise interruption

    with pytest.raises(interruption):
        write_all({tmp_path / "deep" / "a.py": "1"}, interrupt)
    assert list(tmp_path.iterdir()) == []


def test_what_is_accepted_is_what_the_disk_holds(tmp_path):
    seen = {}
    write_all({tmp_path / "a.py": "text"}, lambda path, text: seen.update({path: text}))
    assert seen == {tmp_path / "a.py": "text"}


def test_a_folder_is_no_file(tmp_path):
    (tmp_path / "a.py").mkdir()
    with pytest.raises(ArchError) as error:
        write(tmp_path / "a.py", "")
    assert code(error) == "E0911"
    assert list((tmp_path / "a.py").iterdir()) == []


def test_a_file_in_the_way_of_a_folder(tmp_path):
    (tmp_path / "a").write_text("")
    with pytest.raises(ArchError) as error:
        write(tmp_path / "a" / "b.py", "")
    assert code(error) == "E0911"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission(tmp_path):
    tmp_path.chmod(0o555)
    with pytest.raises(ArchError) as error:
        write(tmp_path / "a.py", "")
    assert code(error) == "E0911"


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "target.py").write_text("old")
    (tmp_path / "link.py").symlink_to("target.py")
    write(tmp_path / "link.py", "new")
    assert (tmp_path / "link.py").is_symlink()
    assert (tmp_path / "target.py").read_text() == "new"


def test_the_mode_of_a_file_is_kept_and_a_new_file_is_readable(tmp_path):
    (tmp_path / "a.py").write_text("")
    (tmp_path / "a.py").chmod(0o640)
    write(tmp_path / "a.py", "1")
    write(tmp_path / "b.py", "1")
    mask = os.umask(0)
    os.umask(mask)
    assert (tmp_path / "a.py").stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "b.py").stat().st_mode & 0o777 == 0o666 & ~mask


def test_only_generated_files_are_written_over(tmp_path):
    mine, theirs = tmp_path / "mine.py", tmp_path / "theirs.py"
    theirs.write_text(f"{GENERATED}0.0.1 from x.arch\n")
    mine.write_text("import torch\n")
    guard(tmp_path / "new.py")
    guard(theirs)
    guard(mine, force=True)
    with pytest.raises(ArchError) as error:
        guard(mine)
    assert code(error) == "E0912"
