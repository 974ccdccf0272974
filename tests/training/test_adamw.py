import subprocess
import sys

import pytest
import torch

from wsisurv.training.adamw import AdamW


def networks():
    torch.manual_seed(0)
    first = torch.nn.Sequential(torch.nn.Linear(7, 5), torch.nn.Tanh(), torch.nn.Linear(5, 1))
    second = torch.nn.Sequential(torch.nn.Linear(7, 5), torch.nn.Tanh(), torch.nn.Linear(5, 1))
    second.load_state_dict(first.state_dict())
    return first, second


def loss(net, step):
    inputs = torch.randn(20, 7, generator=torch.Generator().manual_seed(step))
    net = net[0] if step < 2 else net  # at first some parameters have no gradient
    return net(inputs).square().mean()


@pytest.mark.parametrize("weight_decay", [0.0, 0.3])
@pytest.mark.parametrize("fused", [False, True])
def test_weights_are_those_of_torchs_class_bit_by_bit_and_after_an_interruption_too(weight_decay, fused):
    ours, theirs = networks()
    mine = AdamW(ours.parameters(), learning_rate=0.01, weight_decay=weight_decay, fused=fused)
    other = torch.optim.AdamW(theirs.parameters(), lr=0.01, weight_decay=weight_decay, fused=fused or None)
    for step in range(9):
        if step == 5:
            kept = mine.moments
            mine = AdamW(ours.parameters(), learning_rate=0.5, weight_decay=weight_decay, fused=fused)
            mine.load(kept)
        mine.learning_rate = other.param_groups[0]["lr"] = 0.01 / (step + 1)
        for net, optimiser in ((ours, mine), (theirs, other)):
            optimiser.zero_grad()
            loss(net, step).backward()
            optimiser.step()
        for one, two in zip(ours.parameters(), theirs.parameters(), strict=True):
            assert torch.equal(one, two), step


def test_training_loads_neither_torchs_compiler_nor_lifelines(tmp_path):
    """Two seconds and a half at the start of every training."""
    code = (
        "import pathlib, sys, torch, wsisurv.training.teacher, wsisurv.training.distill\n"
        "from wsisurv.settings.training import DistillSettings\n"
        "from wsisurv.training.loop import Log, minimise\n"
        "net = torch.nn.Linear(2, 1)\n"
        "log = Log(pathlib.Path('h.jsonl'), 'distill', lambda *_: None)\n"
        "minimise(net, lambda: net(torch.ones(1, 2)).sum(), DistillSettings(epochs=2), part='x', log=log)\n"
        "print(sorted({'torch._dynamo', 'lifelines', 'pandas', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.strip() == "[]"
