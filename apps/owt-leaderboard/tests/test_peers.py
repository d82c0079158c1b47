"""The models of other projects that benchmarks/cpu_minutes.py trains beside ours, and its command."""

import itertools
import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from nnscratch import Muon, SpeedrunConfig, SpeedrunLM
from nnscratch.optimizers.orthogonalization import polar_express_coefficients

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
SMALL = ["--layers", "2", "--width", "32", "--heads", "2", "--context", "16", "--batch", "8", "--vocab-size", "300"]


@pytest.fixture
def peers(monkeypatch):
    if not BENCHMARKS.is_dir():
        pytest.skip(f"no folder {BENCHMARKS}: the benchmarks are only in the repository")
    monkeypatch.syspath_prepend(BENCHMARKS)
    import peers

    return peers


@pytest.fixture
def cpu_minutes(peers, monkeypatch):
    """The command, on a clock that advances by a quarter of a second whenever it is read."""
    import cpu_minutes

    ticks = itertools.count()
    monkeypatch.setattr(cpu_minutes, "process_age", lambda: 5.0 + next(ticks) / 4)
    monkeypatch.setattr(cpu_minutes.time, "perf_counter", lambda: 0.0)
    return cpu_minutes


def test_nanogpt_has_the_parameters_of_gpt2(peers):
    """The 124M of OpenAI: a vocabulary of 50,257, 12 layers of 768, 1,024 positions, with biases."""
    with torch.device("meta"):
        model = peers.NanoGPT(vocab_size=50_257, layers=12, width=768, heads=12, context=1024, bias=True)
    assert sum(param.numel() for param in model.parameters()) == 124_439_808


def test_a_block_of_nanogpt_is_the_pre_norm_block_of_torch(peers):
    torch.manual_seed(0)
    ours = peers.GPT2Block(32, 4, bias=True)
    theirs = torch.nn.TransformerEncoderLayer(
        32, 4, 128, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    )
    names = {"self_attn.in_proj_": "c_attn.", "self_attn.out_proj.": "attn_proj.", "linear1.": "c_fc."}
    names |= {"linear2.": "mlp_proj.", "norm1.": "ln_1.", "norm2.": "ln_2."}
    theirs.load_state_dict(
        {
            f"{name}{kind}": ours.get_parameter(f"{own}{kind}")
            for name, own in names.items()
            for kind in ("weight", "bias")
        }
    )
    x = torch.randn(2, 9, 32)
    mask = torch.nn.Transformer.generate_square_subsequent_mask(9)
    torch.testing.assert_close(ours(x), theirs(x, src_mask=mask, is_causal=True))


@pytest.mark.parametrize("layers", [3, 4])
def test_nanochat_computes_what_the_speedrun_model_computes(peers, layers):
    """Our model rotates adjacent numbers of a head, nanochat the two halves, in the other direction."""
    torch.manual_seed(0)
    theirs = peers.Nanochat(vocab_size=50, layers=layers, width=48, heads=3, context=12)
    with torch.no_grad():
        for param in theirs.parameters():
            param.add_(torch.randn_like(param) / 10)
        theirs.resid_lambdas.fill_(1.0)  # our model does not scale the stream
    config = SpeedrunConfig(
        vocab_size=50, context_length=12, d_model=48, num_layers=layers, num_heads=3, d_ff=192, ffn="relu_squared",
        qk_norm=True, value_embeddings=True, embedding_shortcut=True, embedding_norm=True, logit_soft_cap=20.0,
        norm_eps=torch.finfo(torch.float32).eps,
    )  # fmt: skip
    ours, state = SpeedrunLM(config), theirs.state_dict()
    weights = {"token_embeddings.weight": state["wte.weight"], "lm_head.weight": state["lm_head.weight"]}
    weights["shortcut_scales"] = state["x0_lambdas"]
    weights |= {
        name.replace("value_embeds", "value_embeddings"): state[name] for name in state if "value_embeds" in name
    }
    names = {"attn.v_proj": "c_v", "attn.output_proj": "attn_proj", "ffn.w1": "c_fc", "ffn.w2": "mlp_proj"}
    for index in range(layers):
        layer = f"layers.{index}"
        weights |= {f"{layer}.{own}.weight": state[f"h.{index}.{name}.weight"] for own, name in names.items()}
        for kind in ("q", "k"):
            halves = state[f"h.{index}.c_{kind}.weight"].unflatten(0, (3, 2, 8))
            weights[f"{layer}.attn.{kind}_proj.weight"] = halves.flip(1).transpose(1, 2).flatten(0, 2)
            weights[f"{layer}.attn.{kind}_norm.weight"] = torch.full((16,), 1.2)
        if theirs.h[index].ve_gate is not None:
            weights[f"{layer}.value_gate.weight"] = state[f"h.{index}.ve_gate.weight"]
    ones = {name for name in ours.state_dict().keys() - weights.keys() if ".ln" in f".{name}"}
    ours.load_state_dict(weights | {name: torch.ones(48) for name in ones})
    inputs, targets = torch.randint(50, (2, 5, 12))
    torch.testing.assert_close(theirs.loss(inputs, targets), ours.loss(inputs, targets))


@pytest.mark.parametrize("wide", [False, True])
def test_muon_of_nanochat_is_ours_with_its_options_and_polynomials(peers, monkeypatch, wide):
    """nanochat averages squares over the shorter side, ours over columns; and its decay follows the scaled rate."""
    polynomials, margin = polar_express_coefficients(5), 1.02 / 1.01
    first = tuple(number * margin**power for number, power in zip(polynomials[0], (1, 3, 5), strict=True))
    monkeypatch.setattr(peers, "POLAR_EXPRESS", (first, *polynomials[1:]))
    torch.manual_seed(0)
    start, scale = torch.randn(2, 24, 16) / 10, (24 / 16) ** 0.5
    theirs = [torch.nn.Parameter((matrix.T if wide else matrix).clone()) for matrix in start]
    ours = [torch.nn.Parameter(matrix.clone()) for matrix in start]
    options = {"cautious_weight_decay": True, "coefficients": "polar-express", "normuon": True}
    optimizers = (
        peers.Muon(theirs, 0.1, 0.2, torch.float32),
        Muon(ours, 0.1 / (scale if wide else 1.0), weight_decay=0.2 * scale, **options),
    )
    for _ in range(4):
        for one, other in zip(theirs, ours, strict=True):
            other.grad = torch.randn(24, 16)
            one.grad = other.grad.T.clone() if wide else other.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    for one, other in zip(theirs, ours, strict=True):
        torch.testing.assert_close(one.T if wide else one, other, rtol=1e-4, atol=1e-5)


def test_rates_are_the_published_ones_and_follow_the_time(cpu_minutes, peers):
    """nanochat's hold for a width of 768 and 2**19 tokens per step; a quarter of the tokens halves them."""
    model = peers.Nanochat(vocab_size=8, layers=2, width=768, heads=6, context=8)
    settings = cpu_minutes.SETTINGS["nanochat"] | {"context": 2**10, "batch": 2**7, "rates": 2.0}
    optimizers = cpu_minutes.optimizers_of(model, settings, torch.float32)
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    peaks = [0.008, 0.3, 0.005, 0.5, *[0.02] * 4]
    assert [group["peak"] for group in groups] == pytest.approx(peaks)
    for step, share, factor, momentum, decay in [
        (0, 0.0, 1 / 40, 0.85, 0.2),
        (150, 0.35, 1.0, 0.9, 0.13),
        (900, 1.0, 0.05, 0.95, 0.0),
    ]:
        model.schedule(optimizers, step, share)
        assert [group["lr"] for group in groups] == pytest.approx([factor * peak for peak in peaks])
        assert (groups[-1]["momentum"], groups[-1]["weight_decay"]) == pytest.approx((momentum, decay))

    model = peers.NanoGPT(vocab_size=8, layers=1, width=8, heads=2, context=8)
    optimizers = cpu_minutes.optimizers_of(model, cpu_minutes.SETTINGS["nanogpt"], torch.float32)
    for step, share, rate in [(0, 0.0, 1e-3 / 101), (200, 0.5, 5.5e-4), (900, 1.0, 1e-4)]:
        model.schedule(optimizers, step, share)
        assert [group["lr"] for group in optimizers[0].param_groups] == pytest.approx([rate, rate])


@pytest.mark.parametrize("shuffled", [False, True])
def test_batches_are_windows_of_the_text(cpu_minutes, shuffled):
    """Shuffled, 10 tokens a window, an epoch of 101 tokens has 9 or 10 windows that share no target."""
    batches = cpu_minutes.read_batches(np.arange(101, dtype=np.uint16), 10, 3, seed=0, shuffled=shuffled)
    inputs, targets = (torch.cat(parts) for parts in zip(*itertools.islice(batches, 3), strict=True))
    assert inputs.shape == targets.shape == (9, 10)
    assert torch.equal(inputs + 1, targets)
    assert torch.equal(inputs, inputs[:, :1] + torch.arange(10))
    assert (len(targets.unique()) == 90) == shuffled


@pytest.mark.parametrize("peer", ["nanogpt", "nanochat"])
def test_a_peer_learns_within_its_limit(cpu_minutes, text, capsys, peer):
    """The second run begins where the clock stands after the first one."""
    arguments = ["--peer", peer, "--dataset", str(text), *SMALL, "--rates", "16"]
    for seed, limit in ((0, "30s"), (1, "60s")):
        arguments += ["--time-limit", limit]
        assert cpu_minutes.main([*arguments, "--seed", str(seed), "--results", "lines.jsonl"]) == 0
    lines = [json.loads(line) for line in Path("lines.jsonl").read_text("utf-8").splitlines()]
    assert [line["seed"] for line in lines] == [0, 1]
    for line in lines:
        assert line["loss"] < 0.5 * math.log(300)
        assert line["tokens"] == line["steps"] * 8 * 16
        assert "--rates 16.0" in line["flags"]
    assert lines[0]["loss"] != lines[1]["loss"]
    assert lines[0]["seconds"] <= 30 < lines[1]["seconds"] <= 60
    capsys.readouterr()
    equal = [json.dumps(line | {"time_limit": 30.0}) for line in lines]
    Path("lines.jsonl").write_text("\n".join(equal), "utf-8")
    assert cpu_minutes.main(["--table", "lines.jsonl"]) == 0
    bits = sorted(line["bits_per_byte"] for line in lines)
    row = capsys.readouterr().out.splitlines()[-1]
    assert f"| {sum(bits) / 2:.4f} | {bits[0]:.4f} to {bits[1]:.4f} | - |" in row


def test_the_app_runs_beside_them(cpu_minutes, finished, text, monkeypatch, capsys):
    """The result is that of the app's own records, and other rows are divided by it."""
    commands = []

    def run(command, **options):
        commands.append(command)
        shutil.copytree(finished.directory, command[command.index("--out") + 1])
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(cpu_minutes.subprocess, "run", run)
    words = ["--time-limit", "40s", "--dataset", str(text), "--results", "lines.jsonl"]
    assert cpu_minutes.main(["--peer", "ours", *words, "--", "--set", "num_layers=2"]) == 0
    assert commands[0][:3] == [sys.executable, "-m", "owt_leaderboard"]
    assert commands[0][-2:] == ["--set", "num_layers=2"]
    line = json.loads(Path("lines.jsonl").read_text("utf-8"))
    summary = json.loads((finished.directory / "summary.json").read_text("utf-8"))
    assert (line["size"], line["bits_per_byte"]) == ("2 x 16", summary["bits_per_byte"])
    rival = line | {"peer": "nanochat", "bits_per_byte": 2 * summary["bits_per_byte"]}
    printed = cpu_minutes.table([line, rival, rival | {"peer": "nanogpt", "bits_per_byte": None}])
    assert [row.split(" | ")[-3:] for row in printed.splitlines()[-3:]] == [
        ["diverged", "-", "- |"],
        [f"{rival['bits_per_byte']:.4f}", "-", "2.000 |"],
        [f"{line['bits_per_byte']:.4f}", "-", "1.000 |"],
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--peer", "ours", "--batch", "3"], "--batch: --peer ours has no such setting"),
        (["--peer", "nanogpt", "--matrix-rate", "1"], "--matrix-rate: --peer nanogpt has no such setting"),
        (["--peer", "nanogpt", "--", "--set"], "expected no arguments there"),
        (["--peer", "tinystories"], "--dataset sample is another text in tinystories"),
        (["--peer", "nanogpt", *SMALL, "--time-limit", "2s"], "nothing is left to train"),
    ],
)
def test_what_cannot_be_done_is_refused(cpu_minutes, text, capsys, arguments, message):
    if "--time-limit" in arguments:
        arguments = [*arguments, "--dataset", str(text)]
    assert cpu_minutes.main(arguments) != 0
    assert message in capsys.readouterr().err
