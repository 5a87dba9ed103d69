"""Pure maths: neurons, surrogate gradients, resets. Knows nothing of tensors, shapes or devices."""

from snnkit.equations.equation import Equation as Equation
from snnkit.equations.integrate_and_fire import IF as IF
from snnkit.equations.integrate_and_fire import LI as LI
from snnkit.equations.integrate_and_fire import LIF as LIF
from snnkit.equations.resets import Hard as Hard
from snnkit.equations.resets import NoReset as NoReset
from snnkit.equations.resets import Reset as Reset
from snnkit.equations.resets import Soft as Soft
from snnkit.equations.surrogates import SLAYER as SLAYER
from snnkit.equations.surrogates import ATan as ATan
from snnkit.equations.surrogates import Custom as Custom
from snnkit.equations.surrogates import FastSigmoid as FastSigmoid
from snnkit.equations.surrogates import Gaussian as Gaussian
from snnkit.equations.surrogates import MultiGaussian as MultiGaussian
from snnkit.equations.surrogates import Rectangle as Rectangle
from snnkit.equations.surrogates import Sigmoid as Sigmoid
from snnkit.equations.surrogates import StraightThrough as StraightThrough
from snnkit.equations.surrogates import Surrogate as Surrogate
from snnkit.equations.surrogates import Triangle as Triangle
