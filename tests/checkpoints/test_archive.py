import errno
import hashlib
import io
import json
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from drqn_sb3.checkpoints.archive import FORMAT, is_archive, read_archive, read_summary, versions, write_archive
from drqn_sb3.checkpoints.files import DamagedFileError

STATE = {"weights": np.arange(1000.0), "step": 3, "rng": (1, 2)}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_archive(tmp_path / "it.zip", STATE, {"n_steps": 3})
    return tmp_path / "it.zip"


def rewrite(path: Path, changes: dict[str, bytes | None], comment: bytes | None = None) -> None:
    """Write an archive anew, as somebody with a zip program would."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()} | changes
        comment = archive.comment if comment is None else comment
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            if content is not None:
                archive.writestr(name, content)
        archive.comment = comment


def sign(path: Path, changes: dict[str, bytes | None], manifest: Any = None) -> None:
    """Write an archive anew with sums that are right: a stranger can compute them too."""
    with zipfile.ZipFile(path) as archive:
        manifest = json.loads(archive.read("manifest.json")) if manifest is None else manifest
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in changes.items() if content is not None}
    if sums:
        manifest["sha256"].update(sums)
    text = manifest if isinstance(manifest, bytes) else json.dumps(manifest).encode()
    rewrite(path, {**changes, "manifest.json": text}, hashlib.sha256(text).hexdigest().encode())


def test_a_state_comes_back_as_it_was(path: Path) -> None:
    state, written_with = read_archive(path)
    np.testing.assert_array_equal(state.pop("weights"), STATE["weights"])
    assert state == {"step": 3, "rng": (1, 2)}
    assert written_with == versions() and {"python", "torch", "drqn_sb3"} <= set(written_with)
    assert read_summary(path) == {"n_steps": 3}
    assert is_archive(path)


def test_any_zip_program_finds_its_parts_whole(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["state.json", "arrays/000000.npy", "manifest.json"]


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_one_is_damaged(path: Path, share: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(DamagedFileError, match=r"it.zip is damaged"):
        read_archive(path)


def test_every_flipped_bit_that_matters_is_noticed(path: Path) -> None:
    """Of the zip format itself some bits say nothing: dates, say. What is read is right, or refused."""
    content, rng = path.read_bytes(), np.random.default_rng(0)
    n_refused = 0
    for place in rng.integers(8 * len(content), size=300):
        changed = bytearray(content)
        changed[place // 8] ^= 1 << (place % 8)
        path.write_bytes(changed)
        try:
            state, _ = read_archive(path)
        except DamagedFileError:
            n_refused += 1
        else:
            np.testing.assert_array_equal(state["weights"], STATE["weights"])
            assert (state["step"], state["rng"]) == (3, (1, 2))
    assert n_refused > 250


def test_an_edited_part_is_noticed(path: Path) -> None:
    rewrite(path, {"state.json": b'{"step": 4}'})
    with pytest.raises(DamagedFileError, match=r"the SHA-256 of state.json differs"):
        read_archive(path)


def test_an_edited_manifest_is_noticed(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        manifest = json.loads(archive.read("manifest.json"))
    manifest["summary"]["n_steps"] = 4
    rewrite(path, {"manifest.json": json.dumps(manifest).encode()})
    with pytest.raises(DamagedFileError, match=r"the SHA-256 of manifest.json differs"):
        read_summary(path)


def test_a_missing_part_is_noticed(path: Path) -> None:
    rewrite(path, {"arrays/000000.npy": None})
    with pytest.raises(DamagedFileError, match=r"arrays/000000.npy"):
        read_archive(path)


def manifest_of(path: Path) -> Any:
    with zipfile.ZipFile(path) as archive:
        return json.loads(archive.read("manifest.json"))


def test_another_format_is_told_by_its_version(path: Path) -> None:
    sign(path, {}, {"format": FORMAT + 1, "versions": {"drqn_sb3": "7.0"}, "parts": []})
    with pytest.raises(ValueError, match=rf"format {FORMAT + 1} \(written by drqn_sb3 7.0\).*reads format {FORMAT}") as caught:
        read_archive(path)
    assert not isinstance(caught.value, DamagedFileError), "it is whole, and must not be passed over"


MANIFESTS: dict[str, Any] = {
    "no JSON": b"{",
    "no text": b"\xff\xfe",
    "a list": [1],
    "nested deeply": b"[" * 100_000,
    "a format that is no number": {"format": "1"},
    "a format that is a truth": {"format": True},
    "versions that are none": {"versions": 3},
    "no version": {"versions": {}},
    "a version that is no text": {"versions": {"drqn_sb3": "1", "torch": 2}},
    "another format without a version": {"format": 2, "versions": {}},
    "a sum that is no text": {"sha256": {"state.json": 3}},
    "sums in a list": {"sha256": ["state.json"]},
    "sums of nothing": {"sha256": {}},
    "no summary": {"summary": None},
}


@pytest.mark.parametrize("case", MANIFESTS)
def test_a_manifest_that_nobody_wrote_is_damaged(path: Path, case: str) -> None:
    broken = MANIFESTS[case]
    sign(path, {}, {**manifest_of(path), **broken} if isinstance(broken, dict) else broken)
    with pytest.raises(DamagedFileError, match=r"it.zip is damaged: ."):
        read_archive(path)


@pytest.mark.parametrize("name", ["format", "versions", "summary", "sha256"])
def test_a_manifest_that_lacks_something_is_damaged(path: Path, name: str) -> None:
    manifest = manifest_of(path)
    del manifest[name]
    sign(path, {}, manifest)
    for read in (read_archive, read_summary):
        with pytest.raises(DamagedFileError, match=r"it.zip is damaged: its .* must be of type \w+, got NoneType"):
            read(path)


class FailingFile(io.FileIO):
    """A file on a disk that fails at one read and is well again."""

    n_reads_left = 0

    def read(self, size: int | None = -1, /) -> Any:
        type(self).n_reads_left -= 1
        if type(self).n_reads_left == -1:
            raise OSError(errno.EIO, "Input/output error")
        return super().read(-1 if size is None else size)


def test_a_disk_that_fails_for_a_moment_damages_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Damage is what zipfile itself makes of the first reads' errors itself."""
    monkeypatch.setattr(io, "open", lambda name, mode: FailingFile(name, mode.replace("b", "")))
    n_failures = 0
    for n_reads in range(1000):
        FailingFile.n_reads_left = n_reads
        try:
            read_archive(path)
        except OSError as error:
            assert error.errno == errno.EIO
            n_failures += 1
        if FailingFile.n_reads_left >= 0:
            break
    assert n_failures == n_reads >= 8
    FailingFile.n_reads_left = 0
    with pytest.raises(OSError, match="Input/output error"):
        is_archive(path)


def test_a_folder_is_no_damaged_file(tmp_path: Path) -> None:
    assert not is_archive(tmp_path)
    with pytest.raises(OSError):
        read_archive(tmp_path)


def npy(shape: Any, dtype: str = "<f8", content: bytes = b"", version: tuple[int, int] = (1, 0)) -> bytes:
    """Write an array's file whose header may say what its content is not."""
    header = repr({"descr": dtype, "fortran_order": False, "shape": shape}).encode() + b"\n"
    size = len(header).to_bytes(2 if version == (1, 0) else 4, "little")
    return b"\x93NUMPY" + bytes(version) + size + header + content


def npz() -> bytes:
    content = io.BytesIO()
    np.savez(content, x=np.zeros(3))
    return content.getvalue()


ARRAYS: dict[str, tuple[bytes, str]] = {
    "more than memory": (npy((10**13,)), r"must be .* 80,000,000,000,000 bytes, got 0"),
    "more than numbers": (npy((2**70, 2**70)), "bytes, got 0"),
    "less than nothing": (npy((-1, -1), content=bytes(8)), "8 bytes, got 8"),
    "one too few": (npy((2,), content=bytes(15)), "16 bytes, got 15"),
    "one too many": (npy((2,), content=bytes(17)), "16 bytes, got 17"),
    "empty strings": (npy((200_000_000,), "|S0"), r"numbers or strings, got \|S0"),
    "objects": (npy((1,), "|O", bytes(8)), "numbers or strings, got object"),
    "records": (npy((1,), [("a", "<f8")], bytes(8)), "numbers or strings"),  # type: ignore[arg-type]
    "raw memory": (npy((1,), "|V8", bytes(8)), "numbers or strings"),
    "other truths": (npy((2,), "|b1", b"\x01\x02"), "must be true or false"),
    "an archive": (npz(), "magic string"),
    "nothing": (b"", "magic string"),
    "a newer version": (npy((1,), content=bytes(8), version=(3, 0)), r"version \(1, 0\) or \(2, 0\), got \(3, 0\)"),
    "a header of brackets": (b"\x93NUMPY\x02\x00" + (9000).to_bytes(4, "little") + b"(" * 9000, "."),
    "a header without end": (b"\x93NUMPY\x02\x00\xff\xff\xff\xff{", "."),
    "a header that is cut off": (b"\x93NUMPY\x01\x00\x03\x00{", "."),
}


@pytest.mark.parametrize("case", ARRAYS)
def test_an_array_that_is_not_as_it_says_is_damaged(path: Path, case: str) -> None:
    content, words = ARRAYS[case]
    sign(path, {"arrays/000000.npy": content})
    with pytest.raises(DamagedFileError, match=rf"it.zip is damaged: .*{words}"):
        read_archive(path)


STATES = {
    "nested deeply": b"[" * 100_000 + b"]" * 100_000,
    "too long a number": b"9" * 10_000,
    "too long a deque": b'{"!deque": [], "maxlen": 99999999999999999999}',
    "a key that is none": b'{"!dict": [[[1], 2]]}',
    "one array in many places": json.dumps([{"!list": 0}] * 1000).encode(),
    "no JSON": b"{",
}


@pytest.mark.parametrize("case", STATES)
def test_a_state_that_nobody_wrote_is_damaged(path: Path, case: str) -> None:
    sign(path, {"state.json": STATES[case]})
    with pytest.raises(DamagedFileError, match=r"it.zip is damaged: ."):
        read_archive(path)


def test_parts_on_top_of_one_another_are_damage(path: Path) -> None:
    """A small file whose table of contents names the same bytes again and again would fill the memory."""
    with zipfile.ZipFile(path, "a") as archive:
        archive.filelist *= 50
        archive._didModify = True  # type: ignore[attr-defined]
    with pytest.raises(DamagedFileError, match=r"it.zip is damaged: it can't hold [\d,]+ bytes"):
        read_archive(path)


UNUSUAL: dict[str, Any] = {
    "no rows": np.zeros((0, 3)),
    "no columns": np.zeros((3, 0), np.uint8),
    "no dimensions": np.array(3.5),
    "a number": np.float32(1.5),
    "text": np.array([["a", "bcd"]]),
    "an empty text": np.array([""]),
    "bytes": np.array([b"ab"]),
    "columns first": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "truths": np.array([True, False]),
    "the other byte order": np.arange(3, dtype=">i4"),
    "complex": np.array([1j]),
    "a long header": np.zeros((1,) * 32),
}


@pytest.mark.parametrize("case", UNUSUAL)
def test_unusual_arrays_come_back_as_they_were(tmp_path: Path, case: str) -> None:
    write_archive(tmp_path / "it.zip", {"x": UNUSUAL[case]}, {})
    array = read_archive(tmp_path / "it.zip")[0]["x"]
    assert (array.dtype, array.shape, array.tobytes()) == (UNUSUAL[case].dtype, UNUSUAL[case].shape, UNUSUAL[case].tobytes())
    assert type(array) is type(UNUSUAL[case])
    if isinstance(array, np.ndarray):
        assert array.flags.writeable and array.flags.f_contiguous == UNUSUAL[case].flags.f_contiguous


class Exploit:
    def __reduce__(self) -> Any:
        return os.mkdir, ("executed",)


def test_a_strangers_pickle_is_not_executed(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even one whose sums are right: a stranger can compute them too."""
    monkeypatch.chdir(tmp_path)
    sign(path, {"arrays/000000.npy": pickle.dumps(Exploit())})
    with pytest.raises(DamagedFileError, match="the magic string is not correct"):
        read_archive(path)
    sign(path, {"arrays/000000.npy": npy((1,), "|O", pickle.dumps(Exploit()))})
    with pytest.raises(DamagedFileError, match="must hold numbers or strings, got object"):
        read_archive(path)
    assert not (tmp_path / "executed").exists()


def test_other_files_are_none(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("text")
    with zipfile.ZipFile(tmp_path / "model.zip", "w") as archive:
        archive.writestr("data", "{}")
    assert not any(is_archive(tmp_path / name) for name in ("text", "model.zip", "missing.zip"))
    with pytest.raises(DamagedFileError, match=r"text is damaged, or no checkpoint"):
        read_archive(tmp_path / "text")
    with pytest.raises(DamagedFileError, match=r"missing.zip is missing"):
        read_archive(tmp_path / "missing.zip")
