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


@jit
def tanh(x):
    """(1 - u) / (1 + u) with u = exp(-2 |x|); near 0, where that cancels, the series."""
    u = tl.exp(-2.0 * tl.abs(x))
    far = tl.where(x < 0, u - 1.0, 1.0 - u) / (1.0 + u)
    s = x * x
    near = x * (1.0 + s * (-0.3333333333 + s * (0.1333333333 + s * (-0.05396825397 + s * 0.02186948854))))
    return tl.where(s < 0.0625, near, far)


@jit
def gelu_tanh(x):
    """x Phi(x) with Phi(x) ~ (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2."""
    return x * tl.sigmoid(1.5957691216057308 * (x + 0.044715 * x * x * x))


@jit
def gelu_tanh_slope(x):
    p = tl.sigmoid(1.5957691216057308 * (x + 0.044715 * x * x * x))
    return p + x * p * (1.0 - p) * (1.5957691216057308 + 0.2140644488178638 * x * x)


@jit
def softplus(x):
    """log(1 + exp(x)), of which log(1 + u) loses nothing where u = exp(-|x|) is small."""
    u = tl.exp(-tl.abs(x))
    w = 1.0 + u
    return tl.maximum(x, 0.0) + tl.where(w == 1.0, u, tl.log(w) * (u / tl.where(w == 1.0, 1.0, w - 1.0)))
