"""Search space: the values a parameter may take, and how one is drawn.

Decides ranges, quantisation and distributions. Chance comes in as an argument (`Rng`), so equal seeds give equal
configurations. Knows nothing of trials.
Invariants: a quantised value is a multiple of its quantum within the bounds; integer upper bounds are exclusive unless
quantised, float ones inclusive up to rounding.
Source: names, argument order and bounds are those of Ray Tune's sample functions.
"""

from __future__ import annotations

import inspect
import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

GRID_KEY = "grid_search"


class Rng(Protocol):
    """What drawing needs; `random.Random` has it."""

    def random(self) -> float: ...
    def gauss(self, mu: float, sigma: float) -> float: ...
    def randrange(self, start: int, stop: int) -> int: ...


class Domain:
    """A set of values with a distribution. `draw(rng)` draws one value, `sample()` is for users."""

    def draw(self, rng: Rng) -> Any:
        """Draw one value. Cost: a few hundred nanoseconds."""
        raise NotImplementedError

    def sample(self, config: Any = None, size: int = 1, random_state: Any = None) -> Any:
        """Draw one value, or a list of size values if size is not 1.

        config: for sample_from values, what they read. random_state: a seed or a generator; Python's global one if None.
        """
        rng = as_rng(random_state)
        if size == 1:
            return self.draw(rng)
        return [self.draw(rng) for _ in range(size)]

    def cast(self, value: Any) -> Any:
        """Return value in the type of this domain's values."""
        return value

    def is_valid(self, value: Any) -> bool:
        """Ask whether value could have been drawn."""
        raise NotImplementedError

    @property
    def domain_str(self) -> str:
        """The range in one short text."""
        return "(unknown)"

    def is_grid(self) -> bool:
        """Ask whether every value is tried; domains are sampled."""
        return False

    def is_function(self) -> bool:
        """Ask whether the value is computed by a function of the configuration."""
        return False


def as_rng(random_state: Any) -> Any:
    """Return a generator for a seed, a numpy random state or a generator; the global one of `random` for None."""
    if random_state is None:
        return random
    if isinstance(random_state, int):
        return random.Random(random_state)
    if hasattr(random_state, "gauss"):
        return random_state
    if hasattr(random_state, "integers"):
        return random.Random(int(random_state.integers(2**31)))
    if hasattr(random_state, "randint"):
        return random.Random(int(random_state.randint(2**31 - 1)))
    raise TypeError(f"random_state must be a seed or a random generator, not {random_state!r}.")


@dataclass(frozen=True)
class Float(Domain):
    """A range of floats, uniform in the value or (log) in its logarithm, in steps of quantum if given."""

    lower: float
    upper: float
    log: bool = False
    quantum: float | None = None

    def __post_init__(self) -> None:
        _check_range(self.lower, self.upper, self.log, self.quantum)

    def draw(self, rng: Rng) -> float:
        if self.log:
            low, high = math.log(self.lower), math.log(self.upper)
            value = math.exp(low + rng.random() * (high - low))
        else:
            value = self.lower + rng.random() * (self.upper - self.lower)
        return self.quantize(min(max(value, self.lower), self.upper))

    def quantized(self, q: float) -> Float:
        """Return this range in steps of q."""
        return Float(self.lower, self.upper, self.log, q)

    def cast(self, value: Any) -> float:
        return float(value)

    def is_valid(self, value: Any) -> bool:
        return self.lower <= value <= self.upper

    @property
    def domain_str(self) -> str:
        return f"({self.lower}, {self.upper})"

    def quantize(self, value: float) -> float:
        """Return the step nearest to value within the bounds; value itself without a quantum."""
        if self.quantum is None:
            return value
        return min(max(round(value / self.quantum) * self.quantum, self.lower), self.upper)


@dataclass(frozen=True)
class Integer(Domain):
    """Integers from lower up to, and not including, upper; with a quantum its multiples, upper included."""

    lower: int
    upper: int
    log: bool = False
    quantum: int | None = None

    def __post_init__(self) -> None:
        for bound in (self.lower, self.upper):
            if not isinstance(bound, int) or isinstance(bound, bool):
                raise TypeError(f"Bounds of an integer range must be integers, not {bound!r}.")
        _check_range(self.lower, self.upper, self.log, self.quantum)

    def draw(self, rng: Rng) -> int:
        last = self.upper if self.quantum else self.upper - 1
        if self.log:
            low, high = math.log(self.lower), math.log(last + 1)
            value = min(int(math.exp(low + rng.random() * (high - low))), last)
        else:
            value = rng.randrange(self.lower, last + 1)
        return self.quantize(value)

    def quantized(self, q: int) -> Integer:
        """Return this range in steps of q, its upper bound included."""
        return Integer(self.lower, self.upper, self.log, q)

    def cast(self, value: Any) -> int:
        return int(value)

    def is_valid(self, value: Any) -> bool:
        return self.lower <= value <= (self.upper if self.quantum else self.upper - 1)

    @property
    def domain_str(self) -> str:
        return f"({self.lower}, {self.upper})"

    def quantize(self, value: int) -> int:
        """Return the multiple of the quantum nearest to value within the bounds; value itself without one."""
        if self.quantum is None:
            return value
        return min(max(round(value / self.quantum) * self.quantum, self.lower), self.upper)


@dataclass(frozen=True)
class Normal(Domain):
    """A normal distribution, in steps of quantum if given."""

    mean: float = 0.0
    sd: float = 1.0
    quantum: float | None = None

    def __post_init__(self) -> None:
        if self.sd <= 0:
            raise ValueError(f"The standard deviation must be above 0, not {self.sd!r}.")
        if self.quantum is not None and self.quantum <= 0:
            raise ValueError(f"A quantum must be above 0, not {self.quantum!r}.")

    def draw(self, rng: Rng) -> float:
        value = rng.gauss(self.mean, self.sd)
        return value if self.quantum is None else round(value / self.quantum) * self.quantum

    def quantized(self, q: float) -> Normal:
        """Return this distribution in steps of q."""
        return Normal(self.mean, self.sd, q)

    def cast(self, value: Any) -> float:
        return float(value)

    def is_valid(self, value: Any) -> bool:
        return math.isfinite(value)

    @property
    def domain_str(self) -> str:
        return f"(-inf, inf), mean {self.mean}, sd {self.sd}"


class Categorical(Domain):
    """One of some values, each as likely as the others."""

    def __init__(self, categories: Sequence[Any]) -> None:
        self.categories = list(categories)
        if not self.categories:
            raise ValueError("choice() needs at least one value to choose from.")

    def draw(self, rng: Rng) -> Any:
        return self.categories[rng.randrange(0, len(self.categories))]

    def grid(self) -> dict[str, list[Any]]:
        """Return a grid over the same values."""
        return grid_search(self.categories)

    def is_valid(self, value: Any) -> bool:
        return value in self.categories

    @property
    def domain_str(self) -> str:
        return f"{self.categories}"

    def __len__(self) -> int:
        return len(self.categories)

    def __getitem__(self, index: int) -> Any:
        return self.categories[index]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Categorical) and other.categories == self.categories

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Categorical({self.categories!r})"


class Function(Domain):
    """A value computed by the user's function from the configuration drawn so far."""

    def __init__(self, func: Callable[..., Any]) -> None:
        if not callable(func):
            raise TypeError(f"sample_from() takes a function of the configuration, not {func!r}.")
        self.func = func

    def draw(self, rng: Rng) -> Any:
        raise TypeError("A sample_from() value needs the configuration: it is drawn by a variant generator.")

    def sample(self, config: Any = None, size: int = 1, random_state: Any = None) -> Any:
        """Call the function, with config if it takes one; size times for a list."""
        values = [call_with(self.func, config if config is not None else {}) for _ in range(size)]
        return values[0] if size == 1 else values

    def is_function(self) -> bool:
        return True

    def is_valid(self, value: Any) -> bool:
        return True

    @property
    def domain_str(self) -> str:
        return f"{getattr(self.func, '__name__', self.func)}()"

    def __repr__(self) -> str:
        return f"Function({getattr(self.func, '__name__', self.func)!r})"


def uniform(lower: float, upper: float) -> Float:
    """Floats drawn evenly from [lower, upper]."""
    return Float(lower, upper)


def quniform(lower: float, upper: float, q: float) -> Float:
    """Multiples of q drawn evenly from [lower, upper]. Both bounds must be multiples of q."""
    return Float(lower, upper, quantum=q)


def loguniform(lower: float, upper: float, base: float = 10) -> Float:
    """Floats whose logarithm is drawn evenly; lower must be above 0. base is accepted; it does not matter."""
    return Float(lower, upper, log=True)


def qloguniform(lower: float, upper: float, q: float, base: float = 10) -> Float:
    """Multiples of q whose logarithm is drawn evenly. Both bounds must be multiples of q."""
    return Float(lower, upper, log=True, quantum=q)


def randint(lower: int, upper: int) -> Integer:
    """Integers drawn evenly from lower to upper - 1."""
    return Integer(lower, upper)


def qrandint(lower: int, upper: int, q: int = 1) -> Integer:
    """Multiples of q drawn from lower to upper, both included. Both bounds must be multiples of q."""
    return Integer(lower, upper, quantum=q)


def lograndint(lower: int, upper: int, base: float = 10) -> Integer:
    """Integers from lower to upper - 1 whose logarithm is drawn evenly; lower must be above 0."""
    return Integer(lower, upper, log=True)


def qlograndint(lower: int, upper: int, q: int, base: float = 10) -> Integer:
    """Multiples of q from lower to upper, both included, whose logarithm is drawn evenly."""
    return Integer(lower, upper, log=True, quantum=q)


def randn(mean: float = 0.0, sd: float = 1.0) -> Normal:
    """Floats from a normal distribution."""
    return Normal(mean, sd)


def qrandn(mean: float, sd: float, q: float) -> Normal:
    """Multiples of q from a normal distribution."""
    return Normal(mean, sd, quantum=q)


def choice(categories: Sequence[Any]) -> Categorical:
    """One of the categories, each as likely as the others."""
    return Categorical(categories)


def sample_from(func: Callable[..., Any]) -> Function:
    """The value of func(config), computed for each trial once what it reads has been drawn.

    func may read `config["lr"]`, `config.lr` or `spec.config.lr`; without parameters it is called without.
    """
    return Function(func)


def grid_search(values: Sequence[Any]) -> dict[str, list[Any]]:
    """Every one of the values: the trials are the product of all grids. Raises TypeError if values is no list."""
    if isinstance(values, (str, bytes, Mapping)) or not hasattr(values, "__iter__"):
        raise TypeError(f"grid_search() takes a list of values, not {values!r}.")
    listed = list(values)
    if not listed:
        raise ValueError("grid_search() needs at least one value.")
    return {GRID_KEY: listed}


def call_with(function: Callable[..., Any], config: Any) -> Any:
    """Call a sample_from function, with the configuration if it takes an argument."""
    try:
        takes_config = len(inspect.signature(function).parameters) > 0
    except (TypeError, ValueError):  # Some builtins have no signature; they are called with the configuration.
        takes_config = True
    return function(config) if takes_config else function()


def is_grid(value: object) -> bool:
    """Ask whether value is what grid_search() returned."""
    return isinstance(value, Mapping) and len(value) == 1 and GRID_KEY in value


def _check_range(lower: float, upper: float, log: bool, quantum: float | None) -> None:
    if not lower < upper:
        raise ValueError(f"The lower bound must be below the upper one, and {lower!r} is not below {upper!r}.")
    if log and lower <= 0:
        raise ValueError(f"A logarithmic range needs a lower bound above 0, not {lower!r}.")
    if quantum is None:
        return
    if quantum <= 0:
        raise ValueError(f"A quantum must be above 0, not {quantum!r}.")
    for bound in (lower, upper):
        steps = bound / quantum
        if abs(steps - round(steps)) > 1e-9 * max(1.0, abs(steps)):
            raise ValueError(f"Bound {bound!r} is not a multiple of the quantum {quantum!r}.")
