"""Several processes compute what one process computes, up to rounding."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from processes_helper import NO_RESULT, in_processes
from test_batch_gradients import BATCH, TRAINED, batch, built, method
from torch import nn

from dmlbench.config.plan import Plan
from dmlbench.data.loader import Batches
from dmlbench.data.split import Split
from dmlbench.errors import MethodFailure, UserError
from dmlbench.system.seeding import seed_globals
from dmlbench.training import processes
from dmlbench.training.batch_gradients import add_gradients
from dmlbench.training.embed import embed
from dmlbench.training.global_batch_norm import use_global_batch_norm

MakePlan = Callable[..., Plan]


def gradients(plan: Plan) -> dict[str, torch.Tensor]:
    """The loss, the gradient of each parameter and the running statistics, after a step that has filled a memory."""
    model, objective = built(plan)
    if processes.count() > 1:
        use_global_batch_norm(model)
    values = batch(plan)
    images = values.pop("images")
    assert images is not None
    own = images[processes.part_of(BATCH, processes.rank())]
    for step in range(2):
        seed_globals(step)  # one of the miners samples
        model.zero_grad(), objective.zero_grad()
        loss = add_gradients(model, objective, images=own, plan=plan, **values)  # type: ignore[arg-type]
    named = [*model.named_parameters(), *((f"objective.{name}", value) for name, value in objective.named_parameters())]
    found = {"loss": loss, **{name: value.grad for name, value in named if value.grad is not None}}
    return found | {name: value.double() for name, value in model.named_buffers()}


def largest_difference(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> float:
    assert found.keys() == expected.keys()
    scales = {name: value.abs().max().clamp(min=1e-12) for name, value in expected.items()}
    return max(((found[name] - value).abs().max() / scales[name]).item() for name, value in expected.items())


@pytest.fixture(scope="module")
def plans(tmp_path_factory: pytest.TempPathFactory, make_plan: MakePlan) -> dict[str, Plan]:
    """Two plans of each method: with batch normalization, and with chunks."""
    changes: list[dict[str, Any]] = [{}, {"freeze_batch_norm": True, "chunk_size": 5}]
    directory = tmp_path_factory.mktemp("plans")
    return {
        f"{name}, {changed}": make_plan(directory, method=method(name), protocol={"head_layers": (7,), **changed})
        for name in TRAINED
        for changed in changes
    }


@pytest.fixture(scope="module")
def expected(plans: dict[str, Plan]) -> dict[str, dict[str, torch.Tensor]]:
    return {key: gradients(plan) for key, plan in plans.items()}


@pytest.mark.parametrize("count", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_the_gradients_of_all_losses_and_miners_are_those_of_one_process(
    count: int, plans: dict[str, Plan], expected: dict[str, dict[str, torch.Tensor]]
) -> None:
    def differences() -> dict[str, float]:
        return {key: largest_difference(gradients(plan), expected[key]) for key, plan in plans.items()}

    for one in expected.values():
        assert max(value.abs().max().item() for name, value in one.items() if name != "loss") > 1e-6
    for found in in_processes(count, differences):
        assert isinstance(found, dict), found
        assert len(found) == 2 * len(TRAINED) > 80
        assert max(found.values()) <= 1e-10, max(found.items(), key=lambda item: item[1])


def test_a_batch_that_processes_cannot_share_equally_is_shared_without_a_gap() -> None:
    def parts() -> list[slice]:
        return [processes.part_of(n, rank) for n in (4, 5, 7, 64) for rank in range(processes.count())]

    for found in in_processes(4, parts):
        for n, own in zip((4, 5, 7, 64), (found[:4], found[4:8], found[8:12], found[12:]), strict=True):
            assert [index for part in own for index in range(n)[part]] == list(range(n))
            assert all(part.stop - part.start in (n // 4, n // 4 + 1) for part in own)


@pytest.mark.parametrize("n", [1, 2, 5, 8, 23])
def test_each_image_is_embedded_once_in_the_batches_of_one_process(
    n: int, tmp_path: Path, make_plan: MakePlan, colours: Split
) -> None:
    plan = make_plan(tmp_path, protocol={"batch_size": 2})
    model, _ = built(plan)
    model = model.float()
    ids = (np.arange(n) * 5 % len(colours.frame)).tolist()
    batches = Batches(colours.paths(), plan.protocol)
    expected = embed(model, batches, ids, "cpu")

    def found() -> tuple[int, torch.Tensor]:
        embedded: list[int] = []
        model.trunk.register_forward_hook(lambda module, images, output: embedded.append(len(output)))
        return embed(model, batches, ids, "cpu").numpy(), sum(embedded)

    each = in_processes(3, found)
    for embeddings, _ in each:
        assert np.array_equal(embeddings, expected.numpy())
    assert sum(number for _, number in each) == n


@pytest.mark.parametrize("shape", [(7, 3), (7, 3, 4), (7, 3, 4, 5)])
def test_global_batch_normalization_is_that_of_the_whole_batch(shape: tuple[int, ...]) -> None:
    layer = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d}[len(shape)]
    values, weights = torch.randn(*shape, dtype=torch.float64) * 3 + 1, torch.randn(*shape, dtype=torch.float64)

    def outcome(together: bool, **options: Any) -> list[torch.Tensor]:
        torch.manual_seed(0)
        model = nn.Sequential(layer(3, **options)).double()
        if options.get("affine", True):
            nn.init.normal_(model[0].weight), nn.init.normal_(model[0].bias)
        if together:
            use_global_batch_norm(model)
            assert type(model[0]) is not layer
        part = processes.part_of(len(values), processes.rank()) if together else slice(None)
        own = values[part].clone().requires_grad_()
        output = model(own)
        (output * weights[part]).sum().backward()
        parameters = [one.grad for one in model.parameters()]
        if together:
            processes.add_over_processes(parameters)
        trained = [*parameters, *model.buffers()]
        model.eval()
        return [output.detach(), own.grad, model(own).detach(), *trained]  # type: ignore[list-item]

    def differences() -> list[float]:
        found = []
        for options in ({}, {"affine": False}, {"momentum": None}, {"track_running_stats": False}):
            if options.get("track_running_stats", True):
                together, whole = outcome(True, **options), outcome(False, **options)
                part = processes.part_of(len(values), processes.rank())
                expected = [*(one[part] for one in whole[:3]), *whole[3:]]
                found += [(one - other).abs().max().item() for one, other in zip(together, expected, strict=True)]
        return found

    for found in in_processes(2, differences):
        assert isinstance(found, list), found
        assert max(found) < 1e-12


def test_what_the_first_process_decides_holds_in_all_also_if_it_is_an_error() -> None:
    def decisions() -> list[str]:
        found = [processes.on_first(lambda: f"of {processes.rank()}")]
        for error in (UserError("a value is wrong"), MethodFailure("the loss is nan")):

            def fails(error: Exception = error) -> None:
                raise error

            try:
                processes.on_first(fails)
            except (UserError, MethodFailure) as raised:
                found.append(f"{type(raised).__name__}: {raised}")
        return found

    assert in_processes(2, decisions) == [["of 0", "AgreedError: a value is wrong", "MethodFailure: the loss is nan"]] * 2


def test_processes_with_other_data_code_or_configuration_are_refused_with_what_differs() -> None:
    def differing() -> None:
        processes.agreed(lambda: None, lambda found: {"run id": "a", "images_digest": f"digest {processes.rank() // 2}"})

    sentence = (
        "AgreedError: process 2 of 3 has another images_digest than process 0, 'digest 1' instead of 'digest 0'; start all "
        "processes with the same code, configuration and data"
    )
    assert in_processes(3, differing) == [sentence] * 3


def test_an_error_of_one_process_before_training_is_that_of_all() -> None:
    def failing() -> None:
        def prepare() -> None:
            if processes.rank() == 1:
                raise UserError("data/x.png cannot be read")

        processes.agreed(prepare, lambda found: {})

    assert in_processes(2, failing) == ["AgreedError: process 1 of 2: data/x.png cannot be read"] * 2


def test_the_end_of_a_process_ends_the_others_with_one_sentence() -> None:
    def ends() -> None:
        if processes.rank() == 1:
            raise KeyboardInterrupt
        processes.add_over_processes([torch.ones(3)])

    first, second = in_processes(2, ends)
    assert first.startswith("EndedProcess: another process of this command has ended or cannot be reached (")
    assert first.endswith("); run the same command again to resume")
    assert "\n" not in first
    assert second == "KeyboardInterrupt: "


def test_a_process_that_answers_no_more_is_given_up_after_the_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    def waits() -> None:
        if processes.rank() == 1:
            time.sleep(3)
        processes.add_over_processes([torch.ones(3)])

    monkeypatch.setattr("processes_helper.TIMEOUT_S", "2")
    first, _ = in_processes(2, waits)
    assert first.startswith("EndedProcess: another process of this command has ended or cannot be reached (")


def test_more_processes_than_cuda_devices_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused() -> None:
        processes.refuse_shared_device("cpu")
        processes.refuse_shared_device("cuda")

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    refused()
    sentence = (
        "UserError: 2 processes on this machine need as many CUDA devices, but it has 1; start fewer processes per machine, or "
        "use device=cpu"
    )
    assert in_processes(2, refused) == [sentence] * 2


@pytest.mark.parametrize("stopped", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_process_that_is_stopped_while_others_wait_for_a_decision_is_given_up(
    stopped: int, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def waits() -> None:
        processes.on_first(lambda: None)
        if processes.rank() == stopped:
            os.kill(os.getpid(), signal.SIGSTOP)  # as a machine without power or network, which closes no connection
        processes.agreed(lambda: None, lambda found: {})

    monkeypatch.setattr("processes_helper.TIMEOUT_S", "1")
    assert in_processes(2, waits, timeout=4) == [NO_RESULT] * 2
    assert (
        f"dmlbench: process {stopped} has given no sign for 1 seconds; run the same command again to resume"
        in capfd.readouterr().err
    )


def test_a_process_that_works_for_longer_than_the_timeout_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("processes_helper.TIMEOUT_S", "1")
    assert in_processes(2, lambda: processes.on_first(lambda: time.sleep(2.5))) == [None, None]


@pytest.mark.parametrize("seconds", ["soon", "nan", "inf", "0", "-1", "1e99", ""])
def test_a_timeout_that_is_no_number_of_seconds_is_refused(seconds: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("processes_helper.TIMEOUT_S", seconds)
    sentence = f"AgreedError: DMLBENCH_PROCESS_TIMEOUT_S is {seconds!r}; it must be a number of seconds from 1 to 604800"
    assert in_processes(1, lambda: None) == [sentence]


def test_what_differs_between_processes_is_shortened_in_the_message() -> None:
    def differing() -> None:
        processes.agreed(lambda: None, lambda found: {"config_files": "x " * 500 + str(processes.rank())})

    [first, _] = in_processes(2, differing)
    assert first.startswith("AgreedError: process 1 of 2 has another config_files than process 0, 'x x")
    assert len(first) < 700


def test_an_embedding_in_several_processes_uses_the_statistics_of_its_own_batch() -> None:
    def largest() -> float:
        layer = nn.Sequential(nn.BatchNorm2d(3, track_running_stats=False)).eval()
        use_global_batch_norm(layer)
        images = torch.rand(4 + processes.rank(), 3, 2, 2, generator=torch.Generator().manual_seed(processes.rank()))
        return float((layer(images) - nn.functional.batch_norm(images, None, None, training=True)).abs().max())

    assert in_processes(2, largest) == [0.0, 0.0]
