"""An archive on the data volume replaces the folder that was packed; archives that would harm are refused by name."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import zstandard

from image_sources import photo, text
from pelagos_contract.beneath import ChangedError
from pelagos_contract.disk import FullError
from pelagos_contract.exclusions import ExclusionReason
from pelagos_contract.failures import Reason, RefusedError
from pelagos_contract.sources import Source, VolumeSource
from pelagos_pipelines.annotations.model import Exclusion, SourceFiles
from pelagos_pipelines.preparation import ledger
from pelagos_pipelines.sandbox import Answer, Pool, TaskRefusedError
from pelagos_pipelines.sandbox.ceilings import setting
from pelagos_pipelines.sources import archive_members, archives, registry, volume
from small_volumes import small

__all__ = ["small"]

Content = Mapping[str, bytes]
PNG = b"\x89PNG\r\n\x1a\n"


def zipped(path: Path, content: Content) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    return path


def tarred(path: Path, content: Content, mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, data in content.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def zstandard_tar(path: Path, content: Content) -> Path:
    path.write_bytes(zstandard.compress(tarred(path, content).read_bytes(), 19))
    return path


BOMBS = ("a.zip", "a.tar.gz", "a.tar.zst")


def with_member(path: Path, **changes: object) -> Path:
    """A tar whose only member has these fields, such as another type."""
    with tarfile.open(path, "w") as archive:
        member = tarfile.TarInfo("a.png")
        for name, value in changes.items():
            setattr(member, name, value)
        archive.addfile(member, io.BytesIO(b"") if member.isreg() else None)
    return path


def obtain(path: Path, root: Path) -> SourceFiles:
    return registry.obtain(Source(volume=VolumeSource(path=path.name)), str(root), root / "scratch")


def refusal(path: Path, root: Path) -> str:
    with pytest.raises(RefusedError) as caught:
        obtain(path, root)
    assert caught.value.failure.reason is Reason.FORMAT_INVALID
    assert caught.value.failure.field == "source.volume.path"
    assert str(root) not in caught.value.failure.message
    return caught.value.failure.message


MAKERS: Mapping[str, Callable[[Path, Content], Path]] = {
    "a.zip": zipped,
    "a.tar": tarred,
    "a.tar.gz": lambda path, content: tarred(path, content, "w:gz"),
    "a.TGZ": lambda path, content: tarred(path, content, "w:gz"),
    "a.tar.bz2": lambda path, content: tarred(path, content, "w:bz2"),
    "a.tar.xz": lambda path, content: tarred(path, content, "w:xz"),
    "a.tar.zst": zstandard_tar,
}


@pytest.mark.parametrize("name", MAKERS)
def test_all_kinds_are_unpacked(tmp_path: Path, name: str) -> None:
    big = os.urandom(3 * 2**20)
    found = obtain(MAKERS[name](tmp_path / name, {"cod/1.png": PNG, "eel/é.png": big, "notes.txt": b"x"}), tmp_path)

    assert found.files == ("cod/1.png", "eel/é.png", "notes.txt")
    assert found.read("eel/é.png", 2**23) == big
    assert found.named_by == "source.volume.path"


def test_every_kind_has_a_maker_here() -> None:
    assert {archives.kind_of(name) for name in MAKERS} == set(archives.KINDS.values())


@pytest.mark.parametrize(
    ("outer", "up"), [("fish-1.0/", "../"), ("a/b/", "../../"), ("./fish/", "../"), ("fish\\", "../")]
)
def test_a_single_folder_stands_for_what_is_in_it(tmp_path: Path, outer: str, up: str) -> None:
    path = zipped(
        tmp_path / "a.zip", {f"{outer}cod/1.png": PNG, f"{outer}eel/1.png": PNG, "__MACOSX/fish/._1.png": b""}
    )

    found = obtain(path, tmp_path)

    assert found.files == ("cod/1.png", "eel/1.png")
    assert found.excluded == (Exclusion(f"{up}__MACOSX/fish/._1.png", ExclusionReason.HIDDEN),)


def test_what_lies_beside_a_single_folder_is_counted_beside_its_namesake_in_it(tmp_path: Path) -> None:
    content = {".DS_Store": b"", "a/.DS_Store": b"", "a/b/.DS_Store": b"", "a/b/1.png": PNG}
    tree = obtain(zipped(tmp_path / "a.zip", content), tmp_path)

    balance = ledger.balance(tree, tree.images, (), tree.excluded)

    assert [one.path for one in balance.excluded] == ["../../.DS_Store", "../.DS_Store", ".DS_Store"]
    assert balance.files.found == len(content)


@pytest.mark.parametrize("outer", ["train", "images", "Test"])
def test_a_single_folder_whose_name_says_something_stays(tmp_path: Path, outer: str) -> None:
    assert obtain(zipped(tmp_path / "a.zip", {f"{outer}/1.png": PNG}), tmp_path).files == (f"{outer}/1.png",)


def test_a_folder_that_is_called_like_an_archive_is_a_folder(tmp_path: Path) -> None:
    photo(tmp_path / "set.zip" / "cod" / "1.png")

    assert obtain(tmp_path / "set.zip", tmp_path).files == ("cod/1.png",)


@pytest.mark.parametrize("path", ["missing.zip", "../outside.zip", "link.zip", "/etc/a.zip", "pipe.zip"])
def test_an_archive_outside_of_the_volume_is_not_found(tmp_path: Path, path: str) -> None:
    root = tmp_path / "volume"
    root.mkdir()
    zipped(tmp_path / "outside.zip", {"1.png": PNG})
    (root / "link.zip").symlink_to(tmp_path / "outside.zip")
    os.mkfifo(root / "pipe.zip")

    with pytest.raises(RefusedError) as caught:
        registry.obtain(Source(volume=VolumeSource(path=path)), str(root), tmp_path / "scratch")
    assert caught.value.failure.reason is Reason.SOURCE_NOT_FOUND


OUTSIDE = ["../x.png", "a/../../x.png", "/x.png", "C:/x.png", "..\\x.png", "\\\\host\\x.png"]


@pytest.mark.parametrize("maker", [zipped, tarred], ids=["zip", "tar"])
@pytest.mark.parametrize("name", OUTSIDE)
def test_names_that_lead_out_of_the_archive_are_refused(
    tmp_path: Path, name: str, maker: Callable[[Path, Content], Path]
) -> None:
    path = maker(tmp_path / f"a.{maker.__name__[:3]}", {"ok.png": PNG, name: PNG})

    assert "would lie outside of the archive's folder" in refusal(path, tmp_path)
    assert not (tmp_path / "x.png").exists()
    assert not (tmp_path / "scratch" / "x.png").exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"}, "it holds a link, a.png"),
        ({"type": tarfile.LNKTYPE, "linkname": "other"}, "it holds a link, a.png"),
        ({"type": tarfile.CHRTYPE}, "it holds a device or a pipe, a.png"),
        ({"type": tarfile.FIFOTYPE}, "it holds a device or a pipe, a.png"),
        ({"name": "a\nb.png"}, "holds control characters"),
        ({"name": "/".join("a" * 70)}, "more than 64 folders deep"),
        ({"name": "x" * 300 + ".png"}, "a name of more than 255 bytes"),
        ({"name": os.fsdecode(b"\xff.png")}, "is not UTF-8"),
    ],
    ids=["symbolic link", "hard link", "device", "pipe", "control", "deep", "long", "not UTF-8"],
)
def test_what_is_no_file_of_a_plain_name_is_refused(tmp_path: Path, changes: Mapping[str, object], words: str) -> None:
    assert words in refusal(with_member(tmp_path / "a.tar", **changes), tmp_path)


def test_a_link_in_a_zip_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        info = zipfile.ZipInfo("a.png")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, "/etc/passwd")

    assert "it holds a link, a.png" in refusal(tmp_path / "a.zip", tmp_path)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("Cod.png", "cod.png"), "Cod.png and cod.png differ in case"),
        (("\u00e9.png", "e\u0301.png"), "or in how a character is encoded, alone"),
        (("a.png", "a.png"), "a.png is there twice"),
        (("a.png", "a.png/b.png"), "a.png/b.png is there twice, or as a file and as a folder"),
        (("a/b.png", "a"), "a is there twice, or as a file and as a folder"),
    ],
)
def test_names_that_would_overwrite_each_other_are_refused(tmp_path: Path, names: tuple[str, ...], words: str) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name in names:
            archive.addfile(tarfile.TarInfo(name), io.BytesIO())

    assert words in refusal(tmp_path / "a.tar", tmp_path)


def test_an_encrypted_member_is_refused(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", {"a.png": PNG})
    content = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        content[content.index(signature) + offset] |= 1
    path.write_bytes(content)

    assert "a.png is encrypted: pack it without a password" in refusal(path, tmp_path)


@pytest.mark.parametrize("name", MAKERS)
def test_an_archive_that_was_not_transferred_whole_is_refused(tmp_path: Path, name: str) -> None:
    path = MAKERS[name](tmp_path / name, {"a.png": os.urandom(100_000)})
    path.write_bytes(path.read_bytes()[:60_000])

    assert "it is damaged, or was not transferred whole" in refusal(path, tmp_path)


@pytest.mark.parametrize("name", MAKERS)
def test_what_is_no_archive_is_refused(tmp_path: Path, name: str) -> None:
    assert "it is damaged" in refusal(text(tmp_path / name, "<html>404</html>"), tmp_path)


@pytest.mark.parametrize("left", [1100, 1536, 1540, 2000], ids=["header", "content", "some content", "filling"])
def test_a_tar_that_ends_in_a_header_or_a_member_is_refused(tmp_path: Path, left: int) -> None:
    path = tarred(tmp_path / "a.tar", {"a.png": PNG, "b.png": PNG})
    path.write_bytes(path.read_bytes()[:left])

    assert "it is damaged, or was not transferred whole" in refusal(path, tmp_path)


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", "a.tar.zst"])
def test_a_tar_without_the_blocks_that_end_it_is_read_with_a_warning(tmp_path: Path, name: str) -> None:
    content = tarred(tmp_path / "whole", {"a.png": PNG, "b.png": PNG}).read_bytes()[:2048]
    pack = {"a.tar": bytes, "a.tar.gz": gzip.compress, "a.tar.zst": zstandard.compress}[name]
    (tmp_path / name).write_bytes(pack(content))

    found = obtain(tmp_path / name, tmp_path)

    assert found.files == ("a.png", "b.png")
    assert [f"the archive {name} ends without the blocks that end a tar" in warning for warning in found.warnings] == [
        True
    ]


@pytest.mark.parametrize("blocks", [1, 2, 20])
def test_a_tar_that_has_such_blocks_is_nothing_odd(tmp_path: Path, blocks: int) -> None:
    path = tarred(tmp_path / "a.tar", {"a.png": PNG})
    path.write_bytes(path.read_bytes()[:1024] + bytes(512 * blocks))

    assert obtain(path, tmp_path).warnings == ()


def test_an_empty_file_is_no_tar(tmp_path: Path) -> None:
    (tmp_path / "a.tar").touch()

    assert "it is damaged" in refusal(tmp_path / "a.tar", tmp_path)


def test_a_damaged_header_is_no_end(tmp_path: Path) -> None:
    path = tarred(tmp_path / "a.tar", {"a.png": PNG, "b.png": PNG, "c.png": PNG})
    content = bytearray(path.read_bytes())
    content[1024] ^= 1
    path.write_bytes(content)

    assert "it is damaged" in refusal(path, tmp_path)


def test_a_checksum_of_gzip_is_looked_at(tmp_path: Path) -> None:
    path = tarred(tmp_path / "a.tar.gz", {"a.png": PNG}, "w:gz")
    content = bytearray(path.read_bytes())
    content[-8] ^= 1
    path.write_bytes(content)

    assert "it is damaged" in refusal(path, tmp_path)


PACKERS: Mapping[str, Callable[[bytes], bytes]] = {
    "a.tgz": gzip.compress,
    "a.tar.bz2": bz2.compress,
    "a.tar.xz": lzma.compress,
    "a.tzst": zstandard.compress,
}


@pytest.mark.parametrize(("name", "pack"), PACKERS.items())
def test_an_archive_that_is_packed_in_parts_is_unpacked_wholly(
    tmp_path: Path, name: str, pack: Callable[[bytes], bytes]
) -> None:
    content = tarred(tmp_path / "whole", {f"{number}.png": PNG for number in range(9)}).read_bytes()
    (tmp_path / name).write_bytes(b"".join(pack(content[at : at + 1024]) for at in range(0, len(content), 1024)))

    assert len(obtain(tmp_path / name, tmp_path).files) == 9


def test_archives_that_are_joined_are_refused(tmp_path: Path) -> None:
    first, second = (tarred(tmp_path / name, {name: PNG}, "w:gz").read_bytes() for name in ("1.png", "2.png"))
    (tmp_path / "a.tar.gz").write_bytes(first + second)

    assert "more follows where it ends" in refusal(tmp_path / "a.tar.gz", tmp_path)


def test_names_of_macos_are_read_as_it_writes_them(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", {"xx.png": PNG, "y\u00e9.png": PNG, "images\\1.png": PNG, "images\\": b""})
    path.write_bytes(path.read_bytes().replace(b"xx.png", "\u00fc.png".encode()))

    assert obtain(path, tmp_path).files == ("images/1.png", "y\u00e9.png", "\u00fc.png")


def _with_unicode_path(path: Path, stored: bytes, told: str, *, of: bytes | None = None) -> Path:
    """A zip whose member has the name ``stored`` in no known encoding, with Info-ZIP's Unicode field beside it."""
    checksum = zlib.crc32(stored if of is None else of)
    body = b"\1" + struct.pack("<I", checksum) + told.encode()
    member = zipfile.ZipInfo("x" * len(stored))
    member.extra = struct.pack("<HH", 0x5455, 1) + b"\0" + struct.pack("<HH", 0x7075, len(body)) + body
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(member, PNG)
    path.write_bytes(path.read_bytes().replace(b"x" * len(stored), stored))
    return path


def test_a_name_that_stands_in_a_field_of_its_own_is_that_one(tmp_path: Path) -> None:
    path = _with_unicode_path(tmp_path / "a.zip", b"K\x81ste_____.png", "Küste \u6d77.png")

    found = obtain(path, tmp_path)

    assert (found.files, found.warnings) == (("Küste \u6d77.png",), ())


@pytest.mark.parametrize("told", ["../up.png", "/etc/up.png", "c:\\up.png", "a\n.png"])
def test_a_name_in_a_field_of_its_own_leads_out_of_the_archive_no_more_than_others(tmp_path: Path, told: str) -> None:
    refusal(_with_unicode_path(tmp_path / "a.zip", b"K\x81ste.png", told), tmp_path)


def test_such_a_field_of_another_name_is_passed_over(tmp_path: Path) -> None:
    path = _with_unicode_path(tmp_path / "a.zip", b"K\x81ste.png", "other.png", of=b"before")

    assert obtain(path, tmp_path).files == ("Küste.png",)


def test_names_in_a_code_page_that_nothing_tells_are_read_and_named(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", {"K_ste.png": PNG, "plain.png": PNG, "gr\u00fcn.png": PNG})
    path.write_bytes(path.read_bytes().replace(b"K_ste", b"K\x81ste"))

    found = obtain(path, tmp_path)

    assert found.files == ("Küste.png", "grün.png", "plain.png")
    assert len(found.warnings) == 1
    assert "in which code page 1 names are, and they were read as of code page 437: Küste.png;" in found.warnings[0]


def test_what_a_child_says_of_an_archive_is_shown_bounded_and_plain() -> None:
    said: dict[str, object] = {"unclosed": "yes", "guessed": 10**9, "first": ["\x1b[31m" + "a" * 9_000] * 99}

    (warning,) = archives._odd("a.zip", said)

    assert len(warning) < 2_000
    assert "\x1b" not in warning
    assert list(archives._odd("a.zip", {"guessed": [1], "first": 2})) == []


def test_a_window_beyond_the_ceiling_is_refused_with_what_to_do(tmp_path: Path) -> None:
    content = tarred(tmp_path / "whole", {"a.png": PNG * 50}).read_bytes()

    def with_window(log: int) -> Path:
        parameters = zstandard.ZstdCompressionParameters(window_log=log, write_content_size=False)
        packer = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
        path = tmp_path / f"{log}" / "a.tar.zst"
        path.parent.mkdir()
        path.write_bytes(packer.compress(content) + packer.flush())
        return path

    assert obtain(with_window(27), tmp_path / "27").files == ("a.png",)
    words = refusal(with_window(28), tmp_path / "28")
    assert "a window of more than 128 MiB, as zstd does with --ultra and --long" in words


def test_what_programs_pass_over_in_front_of_frames_is_passed_over(tmp_path: Path) -> None:
    content = tarred(tmp_path / "whole", {"a.png": PNG}).read_bytes()
    skipped = struct.pack("<II", 0x184D2A50, 4) + b"size"
    (tmp_path / "a.tar.zst").write_bytes(skipped + zstandard.compress(content) + skipped)

    assert obtain(tmp_path / "a.tar.zst", tmp_path).files == ("a.png",)


@pytest.mark.parametrize(
    "change", [lambda whole: whole[:-1], lambda whole: whole[:-4] + b"wrng", lambda whole: whole + b"x"]
)
def test_a_checksum_of_zstandard_and_what_follows_are_looked_at(
    tmp_path: Path, change: Callable[[bytes], bytes]
) -> None:
    content = tarred(tmp_path / "whole", {"a.png": PNG}).read_bytes()
    packed = zstandard.ZstdCompressor(write_checksum=True).compress(content)
    (tmp_path / "a.tar.zst").write_bytes(change(packed))

    refusal(tmp_path / "a.tar.zst", tmp_path)


@pytest.mark.parametrize("name", ["./", ".", "a.png/"])
def test_a_file_that_would_be_a_folder_is_refused(tmp_path: Path, name: str) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("b.png", PNG)
        archive.writestr("x" * len(name), PNG)
    content = (tmp_path / "a.zip").read_bytes()
    (tmp_path / "a.zip").write_bytes(content.replace(b"x" * len(name), name.encode()))

    if name == "a.png/":
        assert obtain(tmp_path / "a.zip", tmp_path).files == ("a.png", "b.png")
    else:
        assert "a file without a name" in refusal(tmp_path / "a.zip", tmp_path)


def test_an_archive_that_is_still_written_is_not_called_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = zipped(tmp_path / "a.zip", {"a.png": PNG})
    whole = path.read_bytes()
    path.write_bytes(whole[:-10])
    run = Pool.run

    def growing(pool: Pool, *given: Any, **more: Any) -> Answer:
        try:
            return run(pool, *given, **more)
        finally:
            path.write_bytes(whole)

    monkeypatch.setattr(Pool, "run", growing)

    with pytest.raises(ChangedError):
        obtain(path, tmp_path)


def test_a_member_whose_checksum_is_wrong_is_refused(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", {"a.png": os.urandom(100)})
    content = bytearray(path.read_bytes())
    content[60] ^= 1
    path.write_bytes(content)

    assert "it is damaged" in refusal(path, tmp_path)


@pytest.mark.parametrize("maker", [MAKERS[name] for name in BOMBS], ids=BOMBS)
def test_a_bomb_is_refused_when_it_has_grown_too_much(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    maker: Callable[[Path, Content], Path],
    request: pytest.FixtureRequest,
) -> None:
    name = request.node.callspec.id
    path = maker(tmp_path / name, {"a.png": bytes(2**20), "b.png": bytes(2**30 // 16)})
    monkeypatch.setattr(archive_members, "SMALL", 2**25)
    work = archive_members._Unpacking(tmp_path, 10, 2**40, path.stat().st_size)

    (tmp_path / "into").mkdir()
    work.into = tmp_path / "into"
    with path.open("rb") as file, pytest.raises(TaskRefusedError, match="more than 100 times as many"):
        (archive_members._zip if name == "a.zip" else archive_members._tar)(file, work)
    assert work.written < 2**26


def test_a_size_that_lies_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(setting("archive_gibibytes"), "1")
    path = zipped(tmp_path / "a.zip", {"a.png": bytes(1000)})
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\1\2") + 24 : content.index(b"PK\1\2") + 28] = struct.pack("<I", 10)
    path.write_bytes(content)

    assert "it is damaged" in refusal(path, tmp_path)


def test_more_than_the_ceiling_is_refused_with_the_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "_GIBIBYTE", 1000)
    monkeypatch.setenv(setting("archive_gibibytes"), "1")

    words = refusal(zipped(tmp_path / "a.zip", {"a.png": bytes(2000)}), tmp_path)

    assert "PELAGOS_MAX_ARCHIVE_GIBIBYTES" in words


def test_more_files_than_a_source_may_have_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(volume, "MAX_FILES", 2)

    assert "it holds more than 2 files" in refusal(
        zipped(tmp_path / "a.zip", {f"{i}.png": PNG for i in range(3)}), tmp_path
    )


def test_an_archive_without_an_image_is_empty(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match=r"'a\.zip' holds 1 files and none of them is an image") as caught:
        obtain(zipped(tmp_path / "a.zip", {"notes.txt": b""}), tmp_path)
    assert caught.value.failure.reason is Reason.SOURCE_EMPTY


def test_scratch_space_that_may_not_be_written_is_no_fault_of_the_archive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    zipped(tmp_path / "a.zip", {"a.png": PNG})
    monkeypatch.setattr(archives, "unpack", refuse)

    with pytest.raises(PermissionError):
        obtain(tmp_path / "a.zip", tmp_path)


def test_a_full_disk_is_said_to_be_full(tmp_path: Path, small: Path) -> None:
    zipped(tmp_path / "a.zip", {"a.png": os.urandom(3 * 2**20)})

    with pytest.raises(FullError):
        registry.obtain(Source(volume=VolumeSource(path="a.zip")), str(tmp_path), small / "scratch")
