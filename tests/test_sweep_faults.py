"""What befalls a sweep: kills, full disks, other designs and versions, damaged files, clusters."""

import contextlib
import errno
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from sweeps import DESIGNS, GRID, SAMPLED, assert_same, checksums, rows, written

import bcellsim as bc
from bcellsim.sweep import run, store

pytest.importorskip("pyarrow")
#: Long enough to be killed at ten moments, a second or two each.
LONG = (
    GRID.replace("chunk = 7", 'chunk = 400\ntrajectories = "4 w"\noutputs = ["bcell"]')
    .replace("n = 5", "n = 1000").replace("levels = 2", "levels = 8")
)  # fmt: skip
#: Of ten kills, those that are to come when some chunks of that run are there, but not all: the
#: others may come before the first or after the last.
MOST = 8
ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    path = written(folder, GRID)
    return path, bc.sweep(path, out=folder / "out"), folder / "out"


@pytest.fixture
def copy(undisturbed, tmp_path):
    """The undisturbed sweep, to be harmed."""
    shutil.copytree(undisturbed[2], tmp_path / "out")
    return undisturbed[0], tmp_path / "out"


def test_exactly_the_missing_chunks_are_computed(copy, undisturbed, monkeypatch):
    path, out = copy
    for k in (2, 5):
        store.chunk_path(out, k).unlink()
    store.chunk_path(out, 6).write_bytes(b"PAR1")
    computed = []
    solve = run.run_chunk
    monkeypatch.setattr(
        run, "run_chunk", lambda text, k, *rest: computed.append(k) or solve(text, k, *rest)
    )
    shown = []
    again = bc.sweep(path, out=out, progress=lambda done, total: shown.append((done, total)))
    assert sorted(computed) == [2, 5, 6]
    assert shown[0] == (39, 60)
    assert shown[-1] == (60, 60)
    assert checksums(again) == checksums(undisturbed[1])
    assert_same(rows(again), rows(undisturbed[1]))


def test_chunks_that_the_manifest_misses_are_taken_from_the_files(copy, undisturbed, monkeypatch):
    path, out = copy
    manifest = json.loads((out / store.MANIFEST).read_text())
    del manifest["chunks"]["3"], manifest["chunks"]["4"]
    (out / store.MANIFEST).write_text(json.dumps(manifest))
    monkeypatch.setattr(run, "run_chunk", None)
    assert checksums(bc.sweep(path, out=out)) == checksums(undisturbed[1])


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('until = "16 w"', 'until = "17 w"', "until was 112.0, is 119.0"),
        ("seed = 3", "seed = 4", "seed was 3, is 4"),
        ("chunk = 7", "chunk = 8", "chunk was 7, is 8"),
        ("low = 0.5", "low = 0.6", "factors.emax.low was 0.5, is 0.6"),
        ("high = 2.0", "high = 2", "factors.emax.high was 2.0, is 2"),
    ],
)
def test_another_design_does_not_go_on(copy, old, new, said, tmp_path):
    path, out = copy
    other = written(tmp_path, path.read_text().replace(old, new), "other.toml")
    with pytest.raises(ValueError, match=re.escape(f"begun with another design: {said}")):
        bc.sweep(other, out=out)


def test_another_version_does_not_go_on(copy):
    path, out = copy
    manifest = json.loads((out / store.MANIFEST).read_text())
    manifest["versions"]["bcellsim"] = "0.0.1"
    (out / store.MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match=r"other versions: bcellsim was .*0.0.1.*, is"):
        bc.sweep(path, out=out)


def test_a_directory_of_other_files_is_left_alone(undisturbed, tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(FileExistsError, match="holds other files"):
        bc.sweep(undisturbed[0], out=tmp_path)


def test_a_directory_that_cannot_be_written(undisturbed, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"cannot write to .*file"):
        bc.sweep(undisturbed[0], out=tmp_path / "file" / "out")

    def refuse(path, content):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    monkeypatch.setattr(store, "write_whole", refuse)
    with pytest.raises(OSError, match=r"cannot write to .*out: Read-only file system"):
        bc.sweep(undisturbed[0], out=tmp_path / "out")


def test_a_full_disk_stops_with_a_sentence_and_goes_on(undisturbed, tmp_path, monkeypatch):
    path, whole, _ = undisturbed
    write, left = store.write_whole, [5]

    def until_full(target, content):
        if target.suffix == ".parquet":
            left[0] -= 1
            if left[0] < 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))
        write(target, content)

    monkeypatch.setattr(store, "write_whole", until_full)
    with pytest.raises(OSError, match="out is full; free some space and give the same command"):
        bc.sweep(path, out=tmp_path / "out")
    monkeypatch.undo()
    with pytest.raises(ValueError, match=r"4 of 9 chunks: .*is not computed yet"):
        bc.open_sweep(tmp_path / "out")
    assert checksums(bc.sweep(path, out=tmp_path / "out")) == checksums(whole)


def test_a_write_that_fails_leaves_no_file(tmp_path):
    with pytest.raises(TypeError):
        store.write_whole(tmp_path / "a", "text")
    with pytest.raises(OSError, match="absent"):
        store.write_whole(tmp_path / "absent" / "a", b"bytes")
    store.write_whole(tmp_path / "b", b"bytes")
    assert (tmp_path / "b").read_bytes() == b"bytes"


def test_damaged_and_missing_chunks_are_named(copy):
    _, out = copy
    content = bytearray(store.chunk_path(out, 4).read_bytes())
    content[len(content) // 2] ^= 1
    store.chunk_path(out, 4).write_bytes(content)
    store.chunk_path(out, 7).unlink()
    sentence = (
        r"2 of 9 chunks: .*chunk=4/rows.parquet is damaged: its checksum differs; .*chunk=7/"
        r"rows.parquet is missing"
    )
    with pytest.raises(ValueError, match=sentence):
        bc.open_sweep(out)
    with pytest.warns(UserWarning, match=sentence):
        rest = bc.open_sweep(out, damaged="skip")
    assert rest.table.count_rows() == 120 - 2 * 14
    with pytest.raises(ValueError, match='unknown damaged "skipp"; did you mean "skip"'):
        bc.open_sweep(out, damaged="skipp")


@pytest.mark.parametrize("harm", ["removed", "changed"])
def test_damaged_trajectories_are_named_and_computed_again(tmp_path, harm):
    path, out = written(tmp_path, SAMPLED), tmp_path / "out"
    whole = bc.sweep(path, out=out).trajectories.load()
    piece = out / store.COURSES / "bcell/c/2/0"
    content = bytearray(piece.read_bytes())
    content[-3] ^= 1
    piece.unlink() if harm == "removed" else piece.write_bytes(content)
    sentence = r"1 of 4 chunks: .*trajectories.zarr, scenarios 32 to 47, is damaged or missing"
    with pytest.raises(ValueError, match=sentence):
        bc.open_sweep(out)
    with pytest.warns(UserWarning, match=sentence):
        rest = bc.open_sweep(out, damaged="skip")
    assert rest.table.count_rows() == 2 * (60 - 16)
    assert rest.trajectories.bcell[:32].identical(whole.bcell[:32])
    assert bc.sweep(path, out=out).trajectories.identical(whole)


@pytest.mark.parametrize("left", ["nothing", "metrics", "manifest", "group"])
def test_a_sweep_killed_before_its_first_chunk_goes_on(left, tmp_path):
    path, out = written(tmp_path, SAMPLED), tmp_path / "out"
    whole = bc.sweep(path, out=out).trajectories.load()
    for chunk in (out / store.METRICS).iterdir():
        shutil.rmtree(chunk)
    shutil.rmtree(out / store.COURSES / "bcell")
    if left != "group":
        shutil.rmtree(out / store.COURSES)
    manifest = out / store.MANIFEST
    if left == "manifest":
        manifest.rename(out / f".{manifest.name}.writing")
    elif left != "group":
        manifest.unlink()
    if left == "nothing":
        (out / store.METRICS).rmdir()
    assert bc.sweep(path, out=out).trajectories.identical(whole)


def test_what_is_no_sweep(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"is no sweep: it has no manifest.json"):
        bc.open_sweep(tmp_path)
    (tmp_path / store.MANIFEST).write_text("{")
    with pytest.raises(ValueError, match=r"manifest.json is damaged"):
        bc.open_sweep(tmp_path)
    (tmp_path / store.MANIFEST).write_text('{"layout": 99}')
    with pytest.raises(ValueError, match="layout 99"):
        bc.open_sweep(tmp_path)


def test_two_sweeps_do_not_write_one_directory(copy):
    path, out = copy
    design = run.read_design(path)
    with store.Store.opened(out, design), pytest.raises(FileExistsError, match="another sweep"):
        bc.sweep(path, out=out)


def test_workers_of_another_version_are_refused(undisturbed):
    text = run.read_design(undisturbed[0]).text
    with pytest.raises(RuntimeError, match=r"has bcellsim .*, this process has 9\.9: install the"):
        run.run_chunk(text, 0, {"bcellsim": "9.9"})


def test_a_scheduler_that_does_not_answer(undisturbed, tmp_path, monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.setattr(run, "_PATIENCE", 0.5)
    with pytest.raises(ConnectionError, match=r"no Dask scheduler answers at tcp://127.0.0.1:9 "):
        bc.sweep(undisturbed[0], out=tmp_path / "out", scheduler="tcp://127.0.0.1:9")
    with pytest.raises(ValueError, match='scheduler "nowhere://x"'):
        bc.sweep(undisturbed[0], out=tmp_path / "out", scheduler="nowhere://x")


def started(*words, before=(), **options):
    """Start Python with the package of this working tree; what is in `before` is found first."""
    paths = [*map(str, before), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    return subprocess.Popen([sys.executable, *words], env=environment, cwd=ROOT, **options)


SWEEP = "import sys, bcellsim as bc; bc.sweep(sys.argv[1], out=sys.argv[2])"


def n_written(out):
    return len(list(out.glob("metrics/*/*.parquet")))


@pytest.mark.slow
def test_killed_at_ten_random_moments(tmp_path):
    path = written(tmp_path, LONG)
    whole = bc.sweep(path, out=tmp_path / "whole")
    total = whole.manifest["n_chunks"]
    random_, killed, midway, out = random.Random(1), 0, 0, tmp_path / "out"
    while killed < 10:
        before = n_written(out)
        # So many chunks further, and then at any moment within one.
        goal, later = before + random_.randint(1, 12), random_.uniform(0.0, 0.03)
        process = started("-c", SWEEP, str(path), str(out))
        while process.poll() is None and n_written(out) < goal:
            time.sleep(0.002)
        time.sleep(later)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            killed += 1
        process.wait()
        after = n_written(out)
        assert after >= before
        midway += process.returncode == -signal.SIGKILL and before < after < total
        if process.returncode == 0:
            assert checksums(bc.open_sweep(out)) == checksums(whole)
            shutil.rmtree(out)
    assert midway >= MOST
    with pytest.raises(ValueError, match="is not computed yet"):
        bc.open_sweep(out)
    again = bc.sweep(path, out=out)
    assert checksums(again) == checksums(whole)
    assert_same(rows(again), rows(whole))
    assert again.trajectories.identical(whole.trajectories)
    assert again.table.count_rows() == again.manifest["n_scenarios"] * 2


@contextlib.contextmanager
def cluster(folder, n_workers=2, foreign=()):
    """A scheduler and workers, processes of their own over TCP on this machine.

    One more worker finds the packages of the folder `foreign` first.
    """
    words = ("-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0",
             "--no-dashboard", "--scheduler-file", str(folder / "scheduler.json"))  # fmt: skip
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    scheduler, workers = started(*words, **quiet), []
    try:
        while not (folder / "scheduler.json").exists():
            assert scheduler.poll() is None
            time.sleep(0.1)
        address = json.loads((folder / "scheduler.json").read_text())["address"]
        for before in [()] * n_workers + [[path] for path in foreign]:
            workers.append(
                started("-m", "distributed.cli.dask_worker", address, "--nthreads", "1",
                        "--no-nanny", "--no-dashboard", "--local-directory", str(folder),
                        before=before, **quiet)
            )  # fmt: skip
        from distributed import Client

        with Client(address, set_as_default=False) as client:
            client.wait_for_workers(len(workers), timeout=60)
        yield address, workers, scheduler
    finally:
        for process in (*workers, scheduler):
            process.kill()
            process.wait()


@pytest.mark.slow
def test_two_workers_over_tcp_give_the_same_table(tmp_path):
    pytest.importorskip("distributed")
    with cluster(tmp_path) as (address, *_):
        for name, text in DESIGNS.items():
            path = written(tmp_path, text, f"{name}.toml")
            here = bc.sweep(path, out=tmp_path / f"{name}-here", threads=1)
            there = bc.sweep(path, out=tmp_path / f"{name}-there", scheduler=address)
            assert checksums(there) == checksums(here)
            assert_same(rows(there), rows(here))
        ours, theirs = (
            bc.open_sweep(tmp_path / f"sampled-{where}").trajectories for where in ("here", "there")
        )
        assert ours.identical(theirs)


@pytest.mark.slow
def test_workers_that_come_later_are_used(undisturbed, tmp_path):
    distributed = pytest.importorskip("distributed")
    under_way = []
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None
    ) as here:

        def scale(done, total):
            if done:
                here.scale(3)
                here.wait_for_workers(3, timeout=30)
            under_way.append(len(here.scheduler.tasks))

        again = bc.sweep(undisturbed[0], out=tmp_path / "out", progress=scale,
                         scheduler=here.scheduler_address)  # fmt: skip
    assert max(under_way) > 2
    assert checksums(again) == checksums(undisturbed[1])


@pytest.mark.slow
def test_chunks_of_a_killed_worker_are_there_once(tmp_path):
    pytest.importorskip("distributed")
    path = written(tmp_path, LONG)
    whole = bc.sweep(path, out=tmp_path / "whole")
    with cluster(tmp_path) as (address, workers, _):

        def kill(done, total):
            if done > total // 4 and workers[0].poll() is None:
                workers[0].kill()

        again = bc.sweep(path, out=tmp_path / "out", scheduler=address, progress=kill)
        assert workers[0].poll() == -signal.SIGKILL
    assert checksums(again) == checksums(whole)
    assert_same(rows(again), rows(whole))


@pytest.mark.slow
def test_a_sweep_goes_on_here_after_its_scheduler_is_lost(tmp_path):
    pytest.importorskip("distributed")
    path = written(tmp_path, LONG)
    with cluster(tmp_path) as (address, _, scheduler):

        def kill(done, total):
            if done > total // 8:
                scheduler.kill()

        with pytest.raises(ConnectionError, match=f"the scheduler at {address} is gone; the same"):
            bc.sweep(path, out=tmp_path / "out", scheduler=address, progress=kill)
    with pytest.raises(ValueError, match="is not computed yet"):
        bc.open_sweep(tmp_path / "out")
    again = bc.sweep(path, out=tmp_path / "out")
    assert checksums(again) == checksums(bc.sweep(path, out=tmp_path / "whole"))


@pytest.mark.slow
def test_a_worker_that_has_another_version_is_refused(undisturbed, tmp_path):
    pytest.importorskip("distributed")
    (tmp_path / "old/bcellsim-0.0.1.dist-info").mkdir(parents=True)
    (tmp_path / "old/bcellsim-0.0.1.dist-info/METADATA").write_text(
        "Metadata-Version: 2.1\nName: bcellsim\nVersion: 0.0.1\n"
    )
    with cluster(tmp_path, n_workers=1, foreign=[tmp_path / "old"]) as (address, *_):
        sentence = r"worker tcp://127.0.0.1:\d+ has bcellsim 0\.0\.1\+\w+, this process has .*: in"
        with pytest.raises(RuntimeError, match=sentence):
            bc.sweep(undisturbed[0], out=tmp_path / "out", scheduler=address)
    assert not list((tmp_path / "out").glob("metrics/*/*"))
    assert checksums(bc.sweep(undisturbed[0], out=tmp_path / "out")) == checksums(undisturbed[1])
