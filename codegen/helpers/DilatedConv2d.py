from torch import Tensor, nn

from .dilated_depthwise import dilated_depthwise


class DilatedConv2d(nn.Conv2d):
    """A depthwise nn.Conv2d with dilation, fast on CPUs too."""

    def forward(self, x: Tensor) -> Tensor:
        padding, dilation = self.padding, self.dilation
        assert not isinstance(padding, str)
        return dilated_depthwise(x, self.weight, self.bias, padding, dilation)
