from .fused import jit, tl


@jit
def normal(x):
    """Phi(x) of the normal distribution by Abramowitz and Stegun 7.1.26: |error| < 1e-7, a third of the cost of erf."""
    a = tl.abs(x) * 0.7071067811865476
    t = 1.0 / (1.0 + 0.3275911 * a)
    p = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
    tail = 0.5 * p * tl.exp(-a * a)
    return tl.where(x < 0, tail, 1.0 - tail)


@jit
def gelu(x):
    return x * normal(x)


@jit
def gelu_slope(x):
    return normal(x) + x * 0.3989422804014327 * tl.exp(-0.5 * x * x)
