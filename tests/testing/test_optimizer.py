"""The check of optimizers: a right one passes, and each wrong one fails by its own property."""

from __future__ import annotations

import numpy as np
import pytest
from flat_state import FlatMean, FlatMoments

from tisslm.contracts import Optimizer
from tisslm.testing import check_optimizer


class Right(Optimizer):
    """Gradient descent with momentum and decay, tensor by tensor."""

    def __init__(self, parameters, lr, *, momentum=0.5, weight_decay=0.0):
        super().__init__(parameters, lr)
        self.momentum, self.weight_decay = momentum, weight_decay
        self.buffers = {p.name: np.zeros_like(p.data) for p in parameters if p.trainable}

    def update(self, grad_scale):
        for p in self.parameters:
            if p.trainable:
                self.move(p, p.grad * p.grad.dtype.type(grad_scale), self.get_lr() * p.lr_scale)

    def move(self, p, g, lr):
        buffer = self.buffers[p.name]
        buffer *= self.momentum
        buffer += g + self.decay(p) * p.data
        p.data[...] -= lr * buffer

    def decay(self, p):
        return p.decay_of(self.weight_decay)

    def state(self):
        return {f"{name}/buffer": array for name, array in self.buffers.items()}


class GoesByTheNorm(Right):
    """Divides by the norm of a whole tensor, and does not say that it needs one."""

    def move(self, p, g, lr):
        super().move(p, g / (np.linalg.norm(g) / np.sqrt(g.size) + g.dtype.type(1e-3)), lr)


class SaysItNeedsWholeTensors(GoesByTheNorm):
    elementwise = False


class Uphill(Right):
    def move(self, p, g, lr):
        super().move(p, -g, lr)


class ClearsGradients(Right):
    def update(self, grad_scale):
        super().update(grad_scale)
        self.parameters.grad[...] = 0.0


class IgnoresTheRate(Right):
    def move(self, p, g, lr):
        super().move(p, g, 0.01 * p.lr_scale)


class DecaysAtRateZero(Right):
    def move(self, p, g, lr):
        super().move(p, g, lr)
        if p.decay:
            p.data[...] *= 0.999


class DecaysEverything(Right):
    def move(self, p, g, lr):
        super().move(p, g, lr)
        p.data[...] *= 1 - lr * self.weight_decay


class SaysItIsScaleFree(Right):
    scale_free = True


class NeverDecays(Right):
    def __init__(self, parameters, lr, *, momentum=0.5, weight_decay=0.0):
        super().__init__(parameters, lr, momentum=momentum)


class DecaysAllGroupsAlike(Right):
    def decay(self, p):
        return self.weight_decay if p.decay else 0.0


class DecaysByItsOwnWhereItDecays(Right):
    def decay(self, p):
        return super().decay(p) if p.decay else 0.0


class DecaysWhereItIsTold(Right):
    def decay(self, p):
        return self.weight_decay if p.decay_of(self.weight_decay) else 0.0


class Grows(Right):
    def __init__(self, parameters, lr, *, momentum=0.5, weight_decay=0.0):
        super().__init__(parameters, lr, momentum=momentum, weight_decay=-weight_decay)


class WritesPadding(Right):
    def update(self, grad_scale):
        super().update(grad_scale)
        self.parameters.data[...] += 1e-4 * self.get_lr()


class ThawsTheFrozen(Right):
    def update(self, grad_scale):
        super().update(grad_scale)
        self.parameters.frozen_data[...] *= 1 - self.get_lr()


class ForgetsAParameter(Right):
    def move(self, p, g, lr):
        if p.name != "up.bias":
            super().move(p, g, lr)


class ForgetsLrScale(Right):
    def update(self, grad_scale):
        for p in self.parameters:
            if p.trainable:
                self.move(p, p.grad, self.get_lr())


class SavesNothing(Right):
    def state(self):
        return {}


class SavesCopies(Right):
    def state(self):
        return {name: array.copy() for name, array in super().state().items()}


class NamesNoParameter(Right):
    def state(self):
        return {name.replace("weight", "w"): array for name, array in super().state().items()}


class SavesLists(Right):
    def state(self):
        return {name: array.tolist() for name, array in super().state().items()}


class LoadsAnything(Right):
    def load_state(self, state):
        for name, array in self.state().items():
            array[...] = state.get(name, 0.0)


class ForgetsTheClip(Right):
    takes_grad_scale = True

    def update(self, grad_scale):
        super().update(1.0)


class RoundsTheClipLate(Right):
    takes_grad_scale = True

    def update(self, grad_scale):
        for p in self.parameters:
            if p.trainable:
                self.move(p, p.grad * np.float64(grad_scale), self.get_lr() * p.lr_scale)


class ReadsOldGradients(Right):
    def update(self, grad_scale):
        for p in self.parameters:
            if p.trainable:
                where = slice(p.offset, p.offset + p.data.size)
                g = self.parameters.grad_arena[where].reshape(p.shape)
                self.move(p, g, self.get_lr() * p.lr_scale)


class TakesOptionsByPosition(Right):
    def __init__(self, parameters, lr, momentum=0.5, weight_decay=0.0):
        super().__init__(parameters, lr, momentum=momentum, weight_decay=weight_decay)


class StartsElsewhere(Right):
    def __init__(self, parameters, lr, *, momentum=0.5, weight_decay=0.0):
        super().__init__(parameters, lr, momentum=momentum, weight_decay=weight_decay)
        self.base_lr = 1.0


class StepsItsOwnWay(Right):
    def step(self):
        self.update(1.0)


class OnlyFloat32(Right):
    def move(self, p, g, lr):
        if p.data.dtype == np.float64:
            raise TypeError("float64 is not supported")
        super().move(p, g, lr)


class MovesFloat64Otherwise(Right):
    def move(self, p, g, lr):
        super().move(p, g, lr * (2 if p.data.dtype == np.float64 else 1))


class MeasuresNothing(Right):
    measures_movement = True


class MovesWhenMeasured(Right):
    def move(self, p, g, lr):
        super().move(p, g, lr * (1 if self.movement is None else 2))


class HasAnAverage(Right):
    """Evaluates halfway to where it began."""

    has_average = True

    def __init__(self, parameters, lr, *, momentum=0.5, weight_decay=0.0):
        super().__init__(parameters, lr, momentum=momentum, weight_decay=weight_decay)
        self.start, self.trained = parameters.data.copy(), parameters.data.copy()

    def show_average(self, shown):
        data = self.parameters.data
        if shown:
            self.trained[...] = data
            data[...] = (data + self.start) / 2
        else:
            self.leave(data)
        self.shows_average = shown

    def leave(self, data):
        data[...] = self.trained

    def update(self, grad_scale):
        self.shows_average = False
        super().update(grad_scale)


class LeavesTheAverageRoughly(HasAnAverage):
    def leave(self, data):
        data[...] = 2 * data - self.start


class ShowsNoAverage(HasAnAverage):
    def show_average(self, shown):
        self.shows_average = shown


class Plans(Right):
    def planned(self, parameters):
        return {f"{p.name}/buffer": p.data.nbytes for p in parameters if p.trainable}


class PlansForItself(Plans):
    def planned(self, parameters):
        return super().planned(self.parameters)


WRONG = [
    (LeavesTheAverageRoughly, "the average is shown and left exactly"),
    (ShowsNoAverage, "the average is shown and left exactly"),
    (PlansForItself, "what it plans is what it keeps"),
    (GoesByTheNorm, "pieces are updated as in the whole"),
    (MeasuresNothing, "movement is how far the parameters moved"),
    (MovesWhenMeasured, "movement is how far the parameters moved"),
    (Uphill, "lowers a quadratic"),
    (ClearsGradients, "never touches the gradients"),
    (IgnoresTheRate, "a learning rate of zero moves nothing"),
    (DecaysAtRateZero, "a learning rate of zero moves nothing"),
    (DecaysEverything, "decay shrinks what decays and nothing else"),
    (NeverDecays, "decay shrinks what decays and nothing else"),
    (DecaysAllGroupsAlike, "the weight decay of a group takes the place"),
    (DecaysByItsOwnWhereItDecays, "the weight decay of a group takes the place"),
    (DecaysWhereItIsTold, "the weight decay of a group takes the place"),
    (SaysItIsScaleFree, "a scale free update is as long for larger gradients"),
    (Grows, "decay shrinks what decays and nothing else"),
    (WritesPadding, "moves the parameters but not frozen ones or padding"),
    (ThawsTheFrozen, "moves the parameters but not frozen ones or padding"),
    (ForgetsAParameter, "moves the parameters but not frozen ones or padding"),
    (ForgetsLrScale, "lr scale multiplies the learning rate"),
    (SavesNothing, "a restored state goes on with the same bits"),
    (SavesCopies, "a restored state goes on with the same bits"),
    (NamesNoParameter, "state names are those of the contract"),
    (SavesLists, "state names are those of the contract"),
    (LoadsAnything, "a state that does not fit is refused"),
    (ForgetsTheClip, "both ways of clipping give the same bits"),
    (RoundsTheClipLate, "both ways of clipping give the same bits"),
    (ReadsOldGradients, "a gradient that nobody wrote is zero"),
    (TakesOptionsByPosition, "options are keyword only"),
    (StartsElsewhere, "starts at the learning rate given"),
    (StepsItsOwnWay, "keeps final methods"),
    (OnlyFloat32, "lowers a quadratic"),
    (MovesFloat64Otherwise, "float32 and float64 agree"),
]


def test_one_that_says_that_it_needs_whole_tensors_is_not_asked_for_pieces():
    assert check_optimizer(SaysItNeedsWholeTensors).n_assertions > 100


def test_a_right_optimizer_passes_and_is_counted():
    report = check_optimizer(Right)
    assert report.name == "optimizer Right"
    # the defaults, and once more with momentum=0.9
    assert report.n_assertions > check_optimizer(Right, options={}).n_assertions > 100


@pytest.mark.parametrize("cls", [FlatMean, FlatMoments])
def test_a_state_may_lie_flat(cls):
    assert check_optimizer(cls).n_assertions > 100


@pytest.mark.parametrize("cls", [HasAnAverage, Plans])
def test_an_average_and_a_plan_may_be_given(cls):
    assert check_optimizer(cls, options={"momentum": 0.0}).n_assertions > 100


@pytest.mark.parametrize(("wrong", "prop"), WRONG, ids=[w.__name__ for w, _ in WRONG])
def test_a_wrong_optimizer_fails_by_its_property(refuses, wrong, prop):
    refuses(check_optimizer, wrong, prop)


def test_options_and_test_options_are_what_it_is_built_with():
    seen = set()

    class Mine(Right):
        test_options = ({"momentum": 0.0}, {"momentum": 0.3, "weight_decay": 0.2})

        def __init__(self, parameters, lr, *, momentum, weight_decay=0.0):
            seen.add((momentum, weight_decay))
            super().__init__(parameters, lr, momentum=momentum, weight_decay=weight_decay)

    check_optimizer(Mine)
    assert seen == {(0.0, 0.1), (0.3, 0.2)}
    seen.clear()
    check_optimizer(Mine, options={"momentum": 0.7, "weight_decay": 0.0})
    assert seen == {(0.7, 0.0)}
