"""The command line, run in this process as a user would run it."""

from __future__ import annotations

import ast
import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import archc
from archc.analysis.conventions import CONVENTIONS
from archc.analysis.roofline import DEVICES
from archc.analysis.setting import FLOATS
from archc.cli import COMMANDS, flops, run

ROOT = Path(__file__).parent.parent
# archc from this checkout, installed or not.
HERE = {**os.environ, "PYTHONPATH": str(ROOT)}
TINY = """model tiny(dim: int = 8) {
    input x: [B, C=3, H, W]
    output y = x |> stem: conv(dim, 3) |> mean(H, W)
}

tiny_8 = tiny() {
    claim params == 224
}
tiny_16 = tiny(dim=16)
"""
WRONG = TINY.replace("|> mean(H, W)", "|> gleu")
ALONE = TINY.replace("tiny_16 = tiny(dim=16)\n", "")


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """An empty working folder with three specs."""
    monkeypatch.chdir(tmp_path)
    for name, text in (("tiny", TINY), ("wrong", WRONG), ("alone", ALONE)):
        (tmp_path / f"{name}.arch").write_text(text)
    return tmp_path


@pytest.fixture
def call(capfd):
    """Runs a command: exit code, stdout, stderr."""

    def command(*arguments: str) -> tuple[int, str, str]:
        code = run(list(arguments))
        out, err = capfd.readouterr()
        return code, out, err

    return command


# ---- what the commands say


def test_check_prints_facts_of_every_variant(folder, call):
    code, out, err = call("check", "tiny.arch")
    assert (code, err) == (0, "")
    assert "tiny.arch: 2 variants, 2 sound" in out
    assert "tiny_8   224 params   10.84 MMACs at x 3x224x224   1/1 claims hold" in out
    assert "tiny_16   448 params" in out
    assert "input    x: [B, C=3, H, W]" in out
    assert "needs    nothing: any H, W" in out


def test_check_of_one_variant(folder, call):
    _, out, _ = call("check", "tiny.arch:tiny_16")
    assert "tiny_16" in out and "tiny_8" not in out


def test_a_mistake_of_two_variants_is_told_once(folder, call):
    code, out, err = call("check", "wrong.arch")
    assert code == 1
    assert "0 sound" in out
    assert err.count("error[E0201]") == 1
    assert "did you mean `gelu`?" in err
    assert "wrong.arch:3:" in err


def test_all_specs_are_checked_though_the_first_is_wrong(folder, call):
    code, out, err = call("check", "wrong.arch", "missing.arch", "alone.arch")
    assert code == 2
    assert "tiny_8" in out
    assert "E0201" in err and "E0109" in err


def test_a_claim_that_does_not_hold(folder, call):
    (folder / "claim.arch").write_text(ALONE.replace("== 224", "== 225"))
    code, _, err = call("check", "claim.arch")
    assert code == 1
    assert "error[E0501]" in err and "params is 224" in err


def test_check_as_json(folder, call):
    code, out, err = call("check", "tiny.arch", "wrong.arch", "--format", "json")
    assert (code, err) == (1, "")
    document = json.loads(out)
    assert document["archc"] == archc.__version__
    first, second = document["files"]
    assert [one["name"] for one in first["variants"]] == ["tiny_8", "tiny_16"]
    assert first["variants"][0]["params"] == 224
    assert first["variants"][0]["at"] == {"B": 1, "H": 224, "W": 224}
    assert first["variants"][0]["claims"] == ["params == 224"]
    assert second["variants"] == []
    assert [d["code"] for d in document["diagnostics"]] == ["E0201"]
    assert document["diagnostics"][0]["file"] == "wrong.arch"


def test_check_reads_standard_input(folder):
    done = cli("check", "-", stdin=ALONE)
    assert done.returncode == 0
    assert "<stdin>: 1 variant, 1 sound" in done.stdout


def test_a_file_of_parts_has_nothing_to_check(call):
    code, out, _ = call("check", str(ROOT / "specs" / "std" / "conv.arch"))
    assert code == 0
    assert "binds no variant" in out


def test_every_shipped_spec_is_sound(call):
    code, out, err = call("check", *(str(path) for path in sorted((ROOT / "specs").glob("**/*.arch"))))
    assert (code, err) == (0, "")
    assert "van_b2   26,578,472 params   4.993 GMACs at image 3x224x224   2/2 claims hold" in out


def test_figures_as_a_table(call):
    code, out, err = call("flops", "van_b0", "--size", "image=64x96", "--batch", "2", "--dtype", "bfloat16")
    assert (code, err) == (0, "")
    assert out.startswith("van_b0   image 3x64x96, batch 2, bfloat16\n")
    assert "4,105,800" in out


def test_figures_for_programs(call):
    _, out, _ = call("flops", "van_b0", "--format", "json", "--device", "l4")
    figures = json.loads(out)
    assert (figures["params"], figures["macs"]) == (4_105_800, 864_224_000)
    assert list(figures["roofline_seconds"]) == ["l4"]
    _, out, _ = call("flops", "van_b0", "--format", "csv", "--per", "op")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert len(rows) > 50 and {"path", "macs", "params"} <= set(rows[0])


@pytest.mark.parametrize("form", ["markdown", "latex"])
def test_figures_for_documents(call, form):
    code, out, _ = call("flops", "van_b0", "--format", form)
    assert code == 0
    assert "4.1" in out or "4,105,800" in out


def test_options_say_what_is_known():
    assert set(flops.CONVENTIONS) == set(CONVENTIONS)
    assert set(flops.DEVICES) == set(DEVICES)
    assert set(flops.DTYPES) == set(FLOATS)


def test_figures_of_all_variants(folder, call):
    code, out, err = call("flops", "tiny.arch", "--size", "x=32")
    assert (code, err) == (0, "")
    head, first, second, _, note = out.splitlines()
    assert head.split() == ["params", "MACs", "FLOPs", "weights", "MB", "~peak", "MB", "at"]
    assert first.split()[:2] == ["tiny_8", "224"] and second.split()[:2] == ["tiny_16", "448"]
    assert first.endswith("x 3x32x32")
    assert note == "for the parts of one: archc flops tiny.arch:tiny_8"
    one = call("flops", "tiny.arch:tiny_8", "--size", "x=32")[1]
    assert f"MACs {' '.join(first.split()[2:4])}" in one


@pytest.mark.parametrize(
    ("arguments", "code", "help"),
    [
        (["flops", "van_b0", "--convention", "fvcor"], "E0901", "did you mean `fvcore`?"),
        (["flops", "van_b0", "--device", "tpu"], "E0901", "known are"),
        (["flops", "van_b0", "--size", "img=3"], "E0901", "did you mean `image`?"),
        (["flops", "maxvit_tiny", "--size", "image=200"], "E0902", "nearest it takes"),
        (["flops", "van"], "E0804", "mine = van(dims=..., depths=...)"),
        (["flops", "tiny.arch", "--format", "json"], "E0804", "name one: tiny.arch:tiny_8"),
        (["flops", "tiny.arch:tiny_9"], "E0801", "did you mean"),
        (["check", "van_b9"], "E0109", "did you mean"),
        (["check", "."], "E0109", "name a file"),
        (["check", ""], "E0109", ""),
        (["check", "a\0b"], "E0109", ""),
        (["explain", "E9"], "E0901", ""),
        (["list", "nowhere"], "E0109", ""),
        (["fmt", "nowhere.arch"], "E0109", ""),
        (["compile", "tiny.arch", "-o", "both.py"], "E0901", "name a folder"),
        (["compile", "tiny.arch", "-o", "tiny.arch"], "E0911", "name a folder"),
        (["compile", "alone.arch", "alone.arch"], "E0901", ""),
        (["convert-weights", "van_b0", "nothing.pth", "-o", "."], "E0613", "name a file"),
        (["convert-weights", "van_b0", "nothing.pth", "-o", "-"], "E0613", "name a file"),
        (["convert-weights", "van_b0", "nothing.pth", "-o", "b0.pth"], "E0613", "-o b0.safetensors"),
        (["convert-weights", "van_b0", "nothing.pth", "-o", "no/b0.safetensors"], "E0613", "mkdir -p no"),
        (["verify", "van"], "E0804", ""),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_failures_have_a_code_and_say_what_to_do(folder, call, arguments, code, help):
    before = sorted(folder.iterdir())
    status, out, err = call(*arguments)
    assert status == (1 if code in ("E0801", "E0613") else 2)
    assert out == ""
    assert f"error[{code}]" in err
    assert help in err
    assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize("arguments", [["chek"], ["check"], ["flops", "van_b0", "--batch", "0"], ["--wrong"]])
def test_usage_errors(call, arguments):
    status, out, err = call(*arguments)
    assert (status, out) == (2, "")
    assert "Usage:" in err


def test_a_mistyped_command_suggests_a_close_one(call):
    assert "did you mean `check`?" in call("chek")[2]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(call, command):
    status, out, _ = call(command, "--help")
    assert status == 0
    assert out.startswith(f"Usage: archc {command}")


# ---- writing modules


def test_compile_writes_every_variant_and_says_what_is_proved(folder, call):
    code, out, err = call("compile", "tiny.arch", "-o", "out")
    assert (code, err) == (0, "")
    for name, params in (("tiny_8", "224"), ("tiny_16", "448")):
        text = (folder / "out" / f"{name}.py").read_text()
        assert text.startswith("# @generated by archc ")
        ast.parse(text)
        assert f"wrote    out/{name}.py" in out
        assert f"next     archc verify tiny.arch:{name}" in out
        assert params in out
    assert out.count("proved") == 2


def test_compile_writes_here_by_default_and_the_same_twice(folder, call):
    call("compile", "alone.arch")
    first = (folder / "tiny_8.py").read_bytes()
    assert call("compile", "alone.arch")[0] == 0
    assert (folder / "tiny_8.py").read_bytes() == first
    assert call("compile", "alone.arch", "--check") == (0, "", "")


def test_compile_to_standard_output(folder, call):
    code, out, _ = call("compile", "alone.arch", "-o", "-")
    assert code == 0
    assert out.startswith("# @generated by archc ")
    assert not (folder / "tiny_8.py").exists()


def test_a_file_that_archc_did_not_write_is_left_alone(folder, call):
    mine = folder / "tiny_8.py"
    mine.write_text("mine\n")
    code, _, err = call("compile", "alone.arch")
    assert (code, mine.read_text()) == (2, "mine\n")
    assert "error[E0912]" in err and "--force" in err
    assert call("compile", "alone.arch", "--force")[0] == 0
    assert mine.read_text().startswith("# @generated by archc ")


def test_one_wrong_spec_and_nothing_is_written(folder, call):
    assert call("compile", "alone.arch", "wrong.arch", "-o", "out")[0] == 1
    assert not (folder / "out").exists()


def test_a_text_that_differs_from_its_graph_is_not_put_in_place(folder, call, monkeypatch):
    from archc.backend import module

    emit = module.emit
    monkeypatch.setattr(module, "emit", lambda *given: emit(*given).replace("nn.Conv2d(3, ", "nn.Conv2d(4, "))
    code, out, err = call("compile", "alone.arch", "-o", "out")
    assert (code, out) == (2, "")
    assert "internal error" in err and "this is a bug in archc" in err and "Traceback" not in err
    assert not (folder / "out").exists()


def test_a_stale_file_is_found(folder, call):
    assert call("compile", "alone.arch", "--check")[0] == 1
    call("compile", "alone.arch")
    (folder / "alone.arch").write_text(ALONE.replace("conv(dim, 3)", "conv(dim, 1)").replace("224", "32"))
    code, _, err = call("compile", "alone.arch", "--check")
    assert code == 1
    assert "tiny_8.py is not what archc would write" in err


# ---- running modules


def test_verify_runs_the_module_against_its_graph(folder, call):
    pytest.importorskip("torch")
    code, out, err = call("verify", "alone.arch")
    assert (code, err) == (0, "")
    assert "tiny_8   224 params, float64, the whole network" in out
    assert "forward  B=1 H=1 W=1" in out
    assert out.endswith("agrees with the meaning of the graph within 1e-09\n")


def test_verify_at_a_size(folder, call):
    pytest.importorskip("torch")
    code, out, _ = call("verify", "alone.arch", "--size", "x=5x7", "--dtype", "float32")
    assert code == 0
    assert "B=1 H=5 W=7" in out


def test_a_module_that_differs_from_its_graph_is_told(folder, call, monkeypatch):
    pytest.importorskip("torch")
    from archc.backend import module

    emit = module.emit
    monkeypatch.setattr(module, "emit", lambda *given: emit(*given).replace(".mean(", ".sum("))
    code, out, err = call("verify", "alone.arch")
    assert code == 1
    assert "agrees" not in out
    assert "error[E0631]" in err and "this is a bug in archc" in err


def test_verify_without_torch(folder):
    hide = "import sys; sys.modules['torch'] = None; from archc.cli import main; main()"
    command = [sys.executable, "-c", hide, "verify", "alone.arch"]
    done = subprocess.run(command, capture_output=True, text=True, env=HERE)
    assert done.returncode == 2
    assert "error[E0921]" in done.stderr and "pip install 'archc[torch]'" in done.stderr


def test_weights_are_converted_strictly(folder, call):
    torch = pytest.importorskip("torch")
    rules = '\n\n    weights { "features.*" -> "stem.*" }\n}\n\ntiny_8'
    (folder / "alone.arch").write_text(ALONE.replace("\n}\n\ntiny_8", rules))
    tensors = {"features.weight": torch.ones(8, 3, 3, 3), "features.bias": torch.zeros(8)}
    torch.save(tensors, folder / "official.pth")
    code, out, err = call("convert-weights", "alone.arch", "official.pth", "-o", "out.safetensors")
    assert (code, err) == (0, "")
    assert "wrote    out.safetensors   2 tensors" in out
    torch.save({**tensors, "head.weight": torch.ones(2)}, folder / "official.pth")
    code, out, err = call("convert-weights", "alone.arch", "official.pth", "-o", "again.safetensors")
    assert (code, out) == (1, "")
    assert "error[E0601]" in err
    assert not (folder / "again.safetensors").exists()


# ---- looking at specs


def test_list_has_a_line_for_each_variant(folder, call):
    code, out, err = call("list", ".")
    assert code == 1  # wrong.arch
    assert [line.split()[0] for line in out.splitlines()] == ["name", "tiny_8", "tiny_8", "tiny_16"]
    assert "E0201" in err


@pytest.mark.parametrize(
    ("stage", "part"),
    [
        ("tree", "Component  # alone.arch:1"),
        ("graph", "program tiny_8 of tiny"),
        ("contract", "any sizes"),
        ("weights", "stem.weight  param  8x3x3x3"),
        ("module", "class Tiny(nn.Module):"),
    ],
)
def test_show(folder, call, stage, part):
    code, out, err = call("show", "alone.arch", "--stage", stage)
    assert (code, err) == (0, "")
    assert part in out


def test_diff(folder, call):
    code, out, _ = call("diff", "tiny.arch:tiny_8", "tiny.arch:tiny_16")
    assert code == 0
    assert "+100.0 %" in out
    assert "2 keys in both, 2 of them with another shape, 0 new, 0 gone" in out


def test_explain(call):
    code, out, _ = call("explain", "e0301")
    assert code == 0 and out.startswith("# E0301: ")
    code, out, _ = call("explain")
    assert "E0301: axes do not fit together" in out.splitlines()


# ---- formatting


def test_fmt_in_place_and_check(folder, call):
    spec = folder / "alone.arch"
    formatted = spec.read_text()
    spec.write_text(formatted.replace("    input", "input  "))
    assert call("fmt", "--check", "alone.arch")[0] == 1
    assert spec.read_text() != formatted
    code, out, err = call("fmt", "alone.arch")
    assert (code, out, err) == (0, "", "formatted alone.arch\n")
    assert spec.read_text() == formatted
    assert call("fmt", "alone.arch", "--check") == (0, "", "")


def test_fmt_leaves_a_wrong_file_as_it_is(folder, call):
    spec = folder / "bad.arch"
    spec.write_text("model {")
    assert call("fmt", "bad.arch")[0] == 1
    assert spec.read_text() == "model {"


def test_fmt_from_standard_input(folder):
    done = cli("fmt", "-", stdin=ALONE.replace("    ", ""))
    assert (done.returncode, done.stdout) == (0, ALONE)


def test_the_shipped_specs_are_formatted(call):
    paths = [str(path) for path in sorted((ROOT / "specs").glob("**/*.arch"))]
    assert call("fmt", "--check", *paths) == (0, "", "")


# ---- the public functions


def test_the_public_functions(folder):
    assert archc.load("alone.arch").name == "tiny_8"
    assert archc.check(folder / "alone.arch").contract.requirements == ()
    assert archc.flops("tiny.arch:tiny_16", "x=32").figures.macs == 32 * 32 * 448 - 32 * 32 * 16
    assert archc.compile("alone.arch").startswith("# @generated by archc ")
    with pytest.raises(archc.ArchError):
        archc.check("wrong.arch")


# ---- as a process


def cli(*arguments: str, stdin: str = "", **how: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "archc", *arguments]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=120, env={**HERE, **how})


def test_hostile_names_cannot_reach_the_terminal(folder):
    done = cli("check", "\x1b[31m\u202e.arch")
    assert done.returncode == 2
    assert "\x1b" not in done.stderr and "\u202e" not in done.stderr


def test_output_that_the_terminal_cannot_show(folder):
    (folder / "é.arch").write_text(ALONE)
    done = cli("check", "é.arch", PYTHONIOENCODING="ascii")
    assert done.returncode == 0
    assert r"\xe9.arch" in done.stdout


def test_nobody_reads_on():
    shell = f"{sys.executable} -m archc flops van_b0 --per op --format csv | head -n 1"
    done = subprocess.run(shell, shell=True, capture_output=True, text=True, timeout=120, env=HERE)
    assert done.stdout.startswith("path,")
    assert done.stderr == ""


def test_an_internal_error_is_one_line(folder, call, monkeypatch):
    from archc import driver

    def broken(*_):
        raise ZeroDivisionError("oh\nno")

    monkeypatch.setattr(driver, "build", broken)
    code, out, err = call("check", "alone.arch")
    assert (code, out) == (2, "")
    first, second = err.splitlines()
    assert first == "internal error: ZeroDivisionError: oh no; this is a bug in archc, not in the spec"
    assert "report it with the spec" in second and "--debug" in second
    code, _, err = call("--debug", "check", "alone.arch")
    assert code == 2
    assert "Traceback" in err


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_an_interrupt_leaves_nothing_behind(folder):
    script = "import archc.cli.generate, time; archc.cli.generate.prove = lambda *_: time.sleep(60); "
    script += "archc.cli.main()"
    command = [sys.executable, "-c", script, "compile", "alone.arch", "-o", "out"]

    def listen() -> (
        None
    ):  # a suite that runs in the background of a shell ignores interrupts, and so would its children
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=HERE, preexec_fn=listen) as process:
        for _ in range(300):
            if list(folder.glob("out/.*.part")):
                break
            time.sleep(0.1)
        assert list(folder.glob("out/.*.part"))
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert (process.returncode, err.strip()) == (130, "interrupted")
    assert not (folder / "out").exists()
