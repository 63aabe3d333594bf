"""What a start leaves out changes no model, and it is left out."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lm.initialization import init_weights
from lm.model import Decoder, build
from lm.startup import QuickMetaDevice
from tests.contracts.test_model_contract import CASES, ModelConfig

ROOT = Path(__file__).resolve().parents[2]
TRAINING = """
import sys
from pathlib import Path
import lm.inference.sampling
from experiments.harness import Run
from experiments.harness.execution.execute import execute
from fake_experiment import Coin
from lm import ModelConfig, TrainConfig
from lm.native.build import library

train = TrainConfig(steps=20, batch_size=2, seq_len=16)
execute(Run("01_fake", Coin(), ModelConfig(1, 2, 8, 16), train), Path(sys.argv[1]))
names = ["transformers", "matplotlib", "pandas"] + ["torch._dynamo", "sympy"] * (library() is not None)
print([name for name in names if name in sys.modules])
"""


@pytest.mark.parametrize(("flavour", "changes"), CASES.values(), ids=CASES)
def test_the_model_is_the_same(flavour: str, changes: dict) -> None:
    config = getattr(ModelConfig, flavour)(2, 3, 24, max_seq_len=32, **changes)
    with torch.device("meta"):
        whole = Decoder(config, 11)
    whole.to_empty(device="cpu")
    init_weights(whole, 1)
    quick, expected = build(config, 11, 1).state_dict(), whole.state_dict()
    assert quick.keys() == expected.keys()
    for name, tensor in quick.items():
        assert torch.equal(tensor, expected[name]) and tensor.stride() == expected[name].stride()


def test_draws_of_other_tensors_are_not_left_out() -> None:
    with QuickMetaDevice():
        layer = torch.nn.Linear(3, 4)
        torch.nn.init.zeros_(layer.bias)
        drawn = torch.nn.init.normal_(torch.zeros(100))
    assert layer.weight.detach().std() > 0 and drawn.std() > 0


def test_a_run_imports_no_compiler_and_no_library_that_it_has_no_need_of(tmp_path: Path) -> None:
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests/helpers")])
    variables = {**os.environ, "PYTHONPATH": path, "PHYSICS_OF_LMS_NATIVE": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", TRAINING, str(tmp_path)]
    said = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    assert said.stdout.splitlines()[-1:] == ["[]"], said.stdout + said.stderr
